import unittest

from shapes import area_of_rectangle, area_of_square


class Areas(unittest.TestCase):
    def test_square(self):
        self.assertEqual(area_of_square(3), 9)

    def test_rectangle(self):
        self.assertEqual(area_of_rectangle(2, 3), 6)
