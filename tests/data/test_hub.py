"""Without a network, model and data say so at once: the hub is asked once, before its libraries ask and ask
again.
"""

import http.server
import re
import socket
import threading

import pytest

from gmpo_vl.data.examples import load_examples
from gmpo_vl.data.rows import DataError
from gmpo_vl.data.sources import open_tables
from gmpo_vl.models.loading import model_folder
from gmpo_vl.storage.places import hub_obstacle

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_at(monkeypatch, tmp_path):
    """The hub at another address, with an empty cache."""
    import datasets.config
    from huggingface_hub import constants

    def set_to(port: int) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(datasets.config, "HF_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "600")  # who answers, answers: however slow the machine is
        hub_obstacle.cache_clear()

    yield set_to
    hub_obstacle.cache_clear()


@pytest.fixture
def silent(hub_at, monkeypatch):
    """It takes calls and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        hub_at(server.getsockname()[1])
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.5")
        yield server.getsockname()


@pytest.fixture
def refused(hub_at):
    """Nobody listens at its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    hub_at(address[1])
    return address


@pytest.fixture
def answering(hub_at):
    """It answers every call with the status that the fixture's list holds."""
    status = [404]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status[0])
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub_at(server.server_address[1])
        yield status
        server.shutdown()


@pytest.fixture
def calls(monkeypatch):
    """The addresses that were called, in order, but for calls by threads that an earlier test left behind."""
    called, connect = [], socket.socket.connect
    others = set(threading.enumerate()) - {threading.main_thread()}

    def remember(self, address):
        if threading.current_thread() not in others:
            called.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", remember)
    return called


@pytest.mark.parametrize("hub", ["silent", "refused"])
@pytest.mark.parametrize(
    ("look", "error"), [(model_folder, FileNotFoundError), (open_tables, DataError)], ids=["model", "data"]
)
def test_a_hub_out_of_reach_is_asked_once_and_told_with_what_to_do(hub, look, error, request, calls):
    address = request.getfixturevalue(hub)
    with pytest.raises(error, match=r"someone/thing.* the hub cannot be reached \(.*download .* elsewhere"):
        look("someone/thing")
    assert calls.count(address) == 1, "the libraries tried on their own, again and again"


def test_why_it_is_out_of_reach_is_said_as_the_system_says_it(refused):
    said = hub_obstacle("someone/thing", "model")
    assert said is not None
    assert re.fullmatch(r"\[Errno \d+\] Connection refused", said)


def test_a_hub_that_answers_is_asked_for_the_rest(answering):
    assert hub_obstacle("someone/thing", "model") is None
    with pytest.raises(FileNotFoundError, match="the hub could not give it"):
        model_folder("someone/thing")
    assert hub_obstacle("no such/name/at all", "model") is None
    answering[0] = 503
    assert hub_obstacle("someone/other", "model") == "it answers 503"


def test_without_the_hub_a_model_comes_from_its_cache(refused, tmp_path):
    store = tmp_path / "cache/models--someone--thing"
    (store / "refs").mkdir(parents=True)
    (store / "refs/main").write_text(COMMIT)
    (store / "snapshots" / COMMIT).mkdir(parents=True)
    (store / "snapshots" / COMMIT / "config.json").write_text("{}")
    assert model_folder("someone/thing") == store / "snapshots" / COMMIT


def test_offline_by_choice_nothing_is_asked(refused, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_obstacle("someone/thing", "dataset") is None


def test_a_hub_id_without_a_network_says_what_to_do(monkeypatch):
    import datasets.config
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DataError, match=r"someone/geometry3k: there is no such file .*the hub did not give it.*HF_HOME"
    ):
        load_examples("someone/geometry3k@train")
