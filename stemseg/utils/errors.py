"""The errors that a user can cause; each message says what, where, found, expected, and what to do next."""


class StemsegError(Exception):
    """Base of every error that stems from the user's input; the main scripts print it without a traceback."""


class ConfigError(StemsegError):
    """A configuration key, value or combination of values is wrong."""


class DataError(StemsegError):
    """An annotation file, image, video or environment variable is missing or damaged."""


class CheckpointError(StemsegError):
    """A weights file is missing, damaged or does not fit the network."""


class TrainingError(StemsegError):
    """Training cannot go on in a sensible way."""
