"""A running server is found by what it left beside its state, and tokens go to whom they belong."""

from __future__ import annotations

import json
import os

import pytest
from stub_admin import write_access

from s3lora_serve.cli.fleet.access import Access, Unreachable, find_access, find_clients_url
from s3lora_serve.engine.port import EngineKind
from s3lora_serve.errors import ConfigError

URL, TOKEN = "http://127.0.0.1:8001", "from-the-file"
CONFIG = "base_model: org/model\nplanners:\n  math: {source: hf://org/math@v1}\nstate: {path: var/state.db}\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder without a server."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_server_of_this_folder_is_the_default(here):
    """Without any option, .s3lora/admin.json says address, token and process."""
    write_access(here / ".s3lora" / "admin.json", URL, TOKEN, pid=12)
    assert find_access(None, None, {}) == Access(URL, TOKEN, ".s3lora/admin.json", 12)


def test_a_configuration_says_where_its_servers_state_is(here):
    """With --config the file beside its state is read, wherever the command runs."""
    (here / "planners.yaml").write_text(CONFIG)
    write_access(here / "var" / "admin.json", URL, TOKEN)
    found = find_access(None, here / "planners.yaml", {})
    assert (found.url, found.token) == (URL, TOKEN)


def test_the_environments_token_goes_first(here):
    """It is the one that the operator chose; the variable's name is that of the configuration."""
    (here / "planners.yaml").write_text(CONFIG + "admin: {token_env: OTHER}\n")
    write_access(here / "var" / "admin.json", URL, TOKEN)
    environ = {"OTHER": "mine", "S3LORA_ADMIN_TOKEN": "not this"}
    found = find_access(None, here / "planners.yaml", environ)
    assert (found.token, found.token_from) == ("mine", "OTHER")


def test_a_server_with_a_token_of_the_operators_wants_to_be_told_it(here):
    """Such a server writes its address and no token: the message names the variable, not a refusal."""
    write_access(here / ".s3lora" / "admin.json", URL, "")
    for server in (None, URL):
        with pytest.raises(ConfigError, match="S3LORA_ADMIN_TOKEN is not set"):
            find_access(server, None, {})
        assert find_access(server, None, {"S3LORA_ADMIN_TOKEN": "mine"}).token == "mine"


def test_no_file_means_that_no_server_runs(here):
    """The message names the file, and the hint how a server elsewhere is named."""
    with pytest.raises(Unreachable, match=r"there is no \.s3lora/admin\.json") as caught:
        find_access(None, None, {})
    assert "--config planners.yaml, or --server URL" in caught.value.hint


def test_a_files_token_goes_to_its_own_server_only(here):
    """--server with another address needs its own token: the file's would be sent to another server."""
    write_access(here / ".s3lora" / "admin.json", URL, TOKEN)
    assert find_access(URL + "/", None, {}).token == TOKEN
    with pytest.raises(ConfigError, match="no token for http://elsewhere:8001") as caught:
        find_access("http://elsewhere:8001", None, {})
    assert TOKEN not in str(caught.value)
    assert find_access("http://elsewhere:8001", None, {"S3LORA_ADMIN_TOKEN": "t"}).token == "t"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8001", "ftp://x", "http://", "http://x/admin", "http://x:y"])
def test_what_is_no_address_is_refused(here, url):
    """Only scheme, host and port: a path or a typo is named before anything is sent."""
    with pytest.raises(ConfigError, match="is not an address"):
        find_access(url, None, {"S3LORA_ADMIN_TOKEN": "t"})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"url": 1, "token": "t"}', '{"url": "http://x"}'])
def test_a_file_that_no_server_wrote_is_refused(here, content):
    """Half a file, or another one of that name, is said to be what it is."""
    path = write_access(here / ".s3lora" / "admin.json", URL, TOKEN)
    path.write_text(content)
    with pytest.raises(ConfigError, match="is not what a server writes"):
        find_access(None, None, {})


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_is_not_trusted(here, mode):
    """Whoever can write it could send the operator's orders and token elsewhere."""
    path = write_access(here / ".s3lora" / "admin.json", URL, TOKEN)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="can be written by others"):
        find_access(None, None, {})


def test_a_file_of_somebody_else_is_not_trusted(here, monkeypatch):
    """The owner could do the same at any time; only root's files are taken besides one's own."""
    path = write_access(here / ".s3lora" / "admin.json", URL, TOKEN)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        assert find_access(None, None, {}).token == TOKEN
        os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="it is not trusted"):
        find_access(None, None, {})


def test_a_pipe_is_not_waited_for(here):
    """Something that is no file would be read for ever."""
    (here / ".s3lora").mkdir()
    os.mkfifo(here / ".s3lora" / "admin.json", 0o600)
    with pytest.raises(ConfigError, match="is not a regular file"):
        find_access(None, None, {})


def test_a_token_is_not_shown_by_accident(here):
    """The value's representation, as in a traceback or a log, has no token."""
    write_access(here / ".s3lora" / "admin.json", URL, TOKEN)
    assert TOKEN not in repr(find_access(None, None, {}))
    assert json.loads((here / ".s3lora" / "admin.json").read_text())["token"] == TOKEN


@pytest.mark.parametrize(
    ("url", "local"),
    [(URL, True), ("http://[::1]:1", True), ("http://localhost", True), ("http://10.0.0.1:1", False)],
)
def test_this_machine_is_told_apart(url, local):
    """A proxy of the environment must not come between the command and a server of the same machine."""
    assert Access(url, "t", "x").local is local


@pytest.mark.parametrize("config", [None, "planners.yaml"])
def test_the_fake_engines_server_is_asked_for_by_name(here, config):
    """Both may run at once: neither is taken for the other, and the message names a fake one found alone."""
    (here / "planners.yaml").write_text(CONFIG)
    beside = here / (".s3lora" if config is None else "var")
    file = config and here / config
    beside.mkdir()
    write_access(beside / "fake" / "admin.json", "http://127.0.0.1:9001", "made-up")
    with pytest.raises(Unreachable) as caught:
        find_access(None, file, {})
    assert caught.value.hint == "one with the fake engine does: --engine fake"
    assert find_access(None, file, {}, EngineKind.FAKE).token == "made-up"
    write_access(beside / "admin.json", URL, TOKEN)
    assert (find_access(None, file, {}).url, find_clients_url(file)) == (URL, None)
    assert find_access(None, file, {}, EngineKind.FAKE).url == "http://127.0.0.1:9001"


def test_without_any_server_no_fake_one_is_spoken_of(here):
    """The hint is about what is there."""
    for find in (
        lambda: find_access(None, None, {}, EngineKind.FAKE),
        lambda: find_clients_url(None, EngineKind.FAKE),
    ):
        with pytest.raises(Unreachable, match=r"fake/admin\.json") as caught:
            find()
        assert "start s3lora-serve" in caught.value.hint
    assert find_clients_url(None) is None
