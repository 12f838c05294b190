#!/bin/sh
# Downloads the sources that packages.txt lists to target/completion/SET/CLIENT-NAME.
#
#   benches/completion/download.sh [SET…]       all sets when none is named
#
# Asks each registry through its own client: cargo, npm, pip and apt-get, each with its own
# configuration; `apt-get source` needs deb-src lines. Nothing of a package is run. What cannot
# be had is named and passed over; what is there already is kept.

set -eu
cd "$(dirname "$0")/../.."
list=benches/completion/packages.txt
out=$PWD/target/completion
sets=${*:-fit tune test}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Empties the working folder and goes there.
afresh() {
    rm -rf "$work"
    mkdir -p "$work"
    cd "$work"
}

# Unpacks package $2 in version $3 into the folder $4, with the client $1.
unpack() {
    case $1 in
    crate)
        mkdir src
        : >src/lib.rs
        printf '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2021"\n' >Cargo.toml
        printf '[dependencies]\n%s = { version = "=%s", default-features = false }\n' "$2" "$3" >>Cargo.toml
        cargo fetch --quiet
        cp -R "$(crate_folder "$2" "$3")" "$4"
        ;;
    npm)
        npm pack --silent --ignore-scripts "$2@$3" >/dev/null
        mkdir "$4"
        tar -xzf ./*.tgz -C "$4" --strip-components=1
        ;;
    pypi)
        python3 -m pip download --quiet --no-deps --only-binary :all: "$2==$3"
        mkdir "$4"
        python3 -m zipfile -e ./*.whl "$4"
        ;;
    debian)
        apt-get source --quiet --download-only "$2=$3" >/dev/null
        dpkg-source --no-check -x ./*.dsc "$4" >/dev/null
        ;;
    esac
}

# Tells where cargo's own store keeps crate $1 in version $2, which the manifest here asks for.
crate_folder() {
    cargo metadata --format-version 1 --offline |
        python3 -c 'import json, os, sys
name, version = sys.argv[1:]
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == name and package["version"].split("+")[0] == version:
        print(os.path.dirname(package["manifest_path"]))' "$1" "$2"
}

missing=
while read -r set client name version; do
    case " $sets " in *" ${set:-#} "*) ;; *) continue ;; esac
    folder=$out/$set/$client-$(printf %s "$name" | tr -d @ | tr / -)
    [ -d "$folder" ] && continue
    mkdir -p "$out/$set"
    afresh
    echo "$client $name $version"
    if ! (unpack "$client" "$name" "$version" "$work/tree") </dev/null; then
        missing="$missing $client:$name"
        continue
    fi
    mv "$work/tree" "$folder"
done <"$list"
[ -z "$missing" ] || echo "could not be had:$missing" >&2
