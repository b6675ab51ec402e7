"""The parts of the framework figure: a canvas, the pictures in it, and its layout."""
