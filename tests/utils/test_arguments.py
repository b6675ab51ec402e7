import pytest

from stemseg.utils.arguments import CommandParser, checked, count, run_command, with_underscores
from stemseg.utils.errors import ConfigError


def test_flags_may_be_spelled_with_hyphens_and_values_stay():
    given = ["--model-dir", "my-run", "--set=A-B=c-d", "-o", "a-b", "--", "--not-a-flag"]
    assert list(with_underscores(given)) == ["--model_dir", "my-run", "--set=A-B=c-d", "-o", "a-b", *given[-2:]]


def test_both_spellings_reach_one_value_and_abbreviations_none(capsys):
    parser = CommandParser()
    parser.add_mutually_exclusive_group().add_argument("--save_vis", action="store_true")
    assert parser.parse_args(["--save-vis"]).save_vis and parser.parse_args(["--save_vis"]).save_vis
    assert "--save_vis" in parser.format_help() and "--save-vis" not in parser.format_help()
    with pytest.raises(SystemExit):
        parser.parse_args(["--save"])


def test_values_are_checked_while_they_are_read(capsys):
    def refuse(text):
        raise ConfigError(f"'{text}' is no color; expected red")

    parser = CommandParser()
    parser.add_argument("--color", type=checked(refuse))
    parser.add_argument("--number", type=count)
    for arguments, message in ([["--color", "blue"], "'blue' is no color; expected red"],
                               [["--number", "-1"], "expected"], [["--number", "x"], "no whole number"]):  # fmt: skip
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        assert message in capsys.readouterr().err


def test_our_errors_end_a_command_with_one_line_and_others_are_not_hidden(capsys):
    def fail(error):
        raise error

    assert run_command(lambda: None) == 0
    assert run_command(lambda: fail(ConfigError("wrong"))) == 1
    assert capsys.readouterr().err == "error: wrong\n"
    with pytest.raises(KeyError):
        run_command(lambda: fail(KeyError("a bug")))
