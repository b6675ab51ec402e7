"""``BASE``: a file holds what differs from another one."""

import pytest
import yaml

from stemseg.config import CONFIG_DIR, load_config
from stemseg.utils.errors import ConfigError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_name_in_configs_is_a_base_and_the_file_wins(tmp_path):
    path = write(tmp_path / "mine.yaml", "BASE: davis_1\nINPUT: {NUM_FRAMES: 4}\nDATA: {MIX: {davis: 2}}")
    cfg, base = load_config(path, ["INPUT.MIN_DIM=100"]).to_dict(), load_config("davis_1").to_dict()
    assert (cfg["INPUT"].pop("NUM_FRAMES"), base["INPUT"].pop("NUM_FRAMES")) == (4, 8)
    assert (cfg["INPUT"].pop("MIN_DIM"), base["INPUT"].pop("MIN_DIM")) == (100, 736)
    assert cfg["DATA"].pop("MIX") == {"davis": 2.0} and base["DATA"].pop("MIX")
    assert cfg == base


def test_bases_form_a_chain_of_files_beside_each_other(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    write(tmp_path / "first.yaml", "BASE: kitti_mots_1.yaml\nTRAINING: {SEED: 1, BATCH_SIZE: 6}")
    write(tmp_path / "sub" / "second.yaml", "BASE: ../first.yaml\nTRAINING: {SEED: 2}")
    write(tmp_path / "sub" / "third.yaml", "BASE: second\nINPUT: {NUM_FRAMES: 2}")
    monkeypatch.chdir(tmp_path)
    cfg = load_config("sub/third")
    assert (cfg.INPUT.NUM_FRAMES, cfg.TRAINING.SEED, cfg.TRAINING.BATCH_SIZE) == (2, 2, 6)
    assert cfg.TRAINING.MODE == "kitti_mots"


def test_a_file_may_have_the_name_of_the_published_one_that_it_is_based_on(tmp_path):
    path = write(tmp_path / "davis_1.yaml", "BASE: davis_1\nTRAINING: {SEED: 5}")
    assert load_config(path).TRAINING.SEED == 5
    assert load_config(path).INPUT.MIN_DIM == 736


def test_circles_and_missing_bases_are_named(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    write(a, "BASE: b.yaml")
    write(b, "BASE: ./a.yaml")
    with pytest.raises(ConfigError, match=r"circle: .*a\.yaml -> .*b\.yaml -> .*a\.yaml"):
        load_config(a)
    write(a, "BASE: a.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load_config(a)
    write(a, "BASE: davis_9")
    with pytest.raises(ConfigError, match=r"a\.yaml: 'BASE': configuration 'davis_9' is neither .* davis_1"):
        load_config(a)
    write(a, "BASE: [davis_1]")
    with pytest.raises(ConfigError, match=r"a\.yaml: 'BASE' is \['davis_1'\], expected a name"):
        load_config(a)


@pytest.mark.parametrize("text", ["INPUT: {BASE: davis_1}", "BASE: davis_1\nBASE: davis_2"])
def test_base_stands_once_and_at_the_top(text, tmp_path):
    with pytest.raises(ConfigError, match="BASE"):
        load_config(write(tmp_path / "mine.yaml", text))
    with pytest.raises(ConfigError, match=r"'BASE'.*top of a configuration file"):
        load_config(None, ["BASE=davis_1"])


def test_errors_name_the_file_of_the_chain_that_is_wrong(tmp_path):
    write(tmp_path / "wrong.yaml", "INPUT: {MIN_DIM: x}")
    path = write(tmp_path / "mine.yaml", "BASE: wrong.yaml")
    with pytest.raises(ConfigError, match=r"wrong\.yaml: 'INPUT\.MIN_DIM' is 'x'"):
        load_config(path)


def test_a_saved_configuration_is_resolved(tmp_path):
    cfg = load_config("davis_2_hevis")
    cfg.save(tmp_path / "config.yaml")
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert "BASE" not in saved and saved == cfg.to_dict()
    assert "BASE" in yaml.safe_load((CONFIG_DIR / "davis_2_hevis.yaml").read_text(encoding="utf-8"))
