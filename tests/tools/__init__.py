"""Tools of those who write the tests."""
