package main

import "fmt"

func main() {
	for i := 0; i < 3; i++ {
		if i == 1 {
			continue
		}
		fmt.Printf("%d\n", i)
		fmt.Println()
	}
}
