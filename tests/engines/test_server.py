"""engine=server against servers that are busy, faulty, wrong, or killed: every request settled once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import protocol
import pytest
from conftest import engine_context
from contract import ContractBench, draw_page
from protocol import Asked, Behaviour, FaultyProxy, ProtocolServer

from pipeline.config import RunSettings
from pipeline.engines.base import Served
from pipeline.engines.server import dispatch, fleet, introduction, remote, talk
from pipeline.engines.server.engine import ServerEngine
from pipeline.engines.server.faults import retry_after_s
from pipeline.engines.server.limit import Limit
from pipeline.engines.server.send import send
from pipeline.errors import EngineLost, SettingsError

TINY = Served("tiny", "0.32.0")
Open = Callable[..., ContractBench]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at servers more often than once in two seconds."""
    monkeypatch.setattr(fleet, "_POLL_S", 0.1)
    monkeypatch.setattr(introduction, "_POLL_S", 0.1)
    monkeypatch.setattr(remote, "_FIRST_WAIT_S", 0.1)


@pytest.fixture
def open_bench(compose: Callable[..., RunSettings], tmp_path: Path) -> Iterator[Open]:
    """Open an engine over servers; all are closed with the test."""
    with ExitStack() as stack:

        def make(
            *servers: ProtocolServer | FaultyProxy, given: tuple[str, ...] = (), **context: Any
        ) -> ContractBench:
            stack.enter_context(protocol.running(*servers))
            urls = ",".join(server.url for server in servers)
            settings = compose(
                "input=.", "engine=server", "task=transcribe", f"engine.urls=[{urls}]",
                "engine.load_timeout_s=20", *given,
            )  # fmt: skip
            told = engine_context(settings, tmp_path, **{"served": TINY, **context})
            engine = stack.enter_context(ServerEngine(settings.engine.server, told))
            pages = [draw_page(tmp_path, f"doc{number}") for number in range(24)]
            return ContractBench(engine, pages, pages[0])

        yield make


def questions(bench: ContractBench, count: int, of: int = 24) -> list[str]:
    """Put that many requests, in turn about each document, and return their texts."""
    requests = [bench.request(f"{number}", bench.pages[number % of]) for number in range(count)]
    bench.engine.put(requests, 0)
    return [request.prompt for request in requests]


def wait_until(happened: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_faulty_way_to_the_server_costs_no_request_and_doubles_none(open_bench: Open) -> None:
    server = ProtocolServer()
    proxy = FaultyProxy(server.port, every=29, slow_s=2.5)
    proxy.is_faulty = False  # the check of the server itself is not what this is about
    with protocol.running(server):
        bench = open_bench(proxy, given=("engine.request_timeout_s=2", "engine.max_concurrency=16"))
        proxy.is_faulty = True
        texts = questions(bench, 120)
        ended = bench.take(120)
        assert Counter(request.prompt for request, _ in ended) == Counter(texts)
        assert [completion.failure for _, completion in ended] == [None] * 120
        assert min(proxy.failed[fault] for fault in protocol.FAULTS) >= 4
        # Whole replies that have reached this client: one for each request, and none for nothing.
        assert {text: proxy.done[text] for text in texts} == dict.fromkeys(texts, 1)


def test_a_server_that_is_killed_and_started_again_loses_and_doubles_nothing(open_bench: Open) -> None:
    server = ProtocolServer(Behaviour(delay_s=0.05))
    bench = open_bench(server, given=("engine.max_concurrency=8",))
    texts = questions(bench, 100)
    ended = bench.take(20)
    server.kill()
    time.sleep(0.5)
    server.start()
    ended += bench.take(100 - len(ended))
    assert Counter(request.prompt for request, _ in ended) == Counter(texts)
    assert [completion.failure for _, completion in ended] == [None] * 100
    twice = sum(count - 1 for text, count in server.answered.items() if text in texts)
    assert twice <= 8  # those that were under way


def test_a_server_that_is_ended_while_it_writes_is_asked_again(open_bench: Open) -> None:
    """On SIGTERM vLLM ends what it is writing as aborted, and is still there to say so."""
    server = ProtocolServer()
    bench = open_bench(server)
    usual, aborted = server.behaviour.says, list[str]()

    def says(asked: Asked) -> Any:
        if len(aborted) < 3 and asked.text not in aborted:
            aborted.append(asked.text)
            chunks = protocol.reply("half a")
            chunks[-2]["choices"][0]["finish_reason"] = "abort"
            return chunks
        return usual(asked)

    server.behaviour.says = says
    texts = questions(bench, 6)
    ended = bench.take(6)
    assert Counter(request.prompt for request, _ in ended) == Counter(texts)
    assert [completion.failure for _, completion in ended] == [None] * 6
    assert len(aborted) == 3


def test_neither_key_nor_pages_go_through_a_proxy_of_the_cluster(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nobody listens
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    bench = open_bench(ProtocolServer())
    questions(bench, 2)
    assert [completion.failure for _, completion in bench.take(2)] == [None, None]


def test_closing_sends_nothing_that_still_waits(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ProtocolServer(Behaviour(delay_s=5))
    bench = open_bench(server, given=("engine.max_concurrency=4",))
    begun: list[str] = []

    def noted(*given: Any) -> Any:
        begun.append("")
        return send(*given)

    monkeypatch.setattr(dispatch, "send", noted)
    questions(bench, 40)
    wait_until(lambda: len(begun) == 4)
    bench.engine.__exit__(None, None, None)
    assert len(begun) == 4


def test_of_two_servers_one_dies_its_documents_move_and_come_back(open_bench: Open) -> None:
    servers = [ProtocolServer(Behaviour(delay_s=0.01)) for _ in range(2)]
    bench = open_bench(*servers)

    def where() -> dict[str, set[int]]:
        """Ask once about each document; return which servers were asked about each."""
        before = [len(server.asked) for server in servers]
        questions(bench, 24)
        assert [completion.failure for _, completion in bench.take(24)] == [None] * 24
        found: dict[str, set[int]] = {}
        for number, server in enumerate(servers):
            for asked in server.asked[before[number] :]:
                found.setdefault(asked.text, set()).add(number)
        return found

    first = where()
    homes = {text: next(iter(numbers)) for text, numbers in first.items()}
    assert set(homes.values()) == {0, 1}
    assert where() == first  # each document stays
    servers[0].kill()
    assert all(1 in numbers for numbers in where().values())
    asked = len(servers[0].asked)
    servers[0].start()
    wait_until(lambda: len(servers[0].asked) > asked)  # the probe
    time.sleep(0.3)
    assert where() == first


def test_further_questions_wait_until_the_first_has_read_the_pages(open_bench: Open) -> None:
    may_begin = threading.Event()

    def says(asked: Asked) -> list[dict[str, Any]]:
        if "leader" in asked.text:
            may_begin.wait(20)
        return protocol.reply("fine")

    server = ProtocolServer(Behaviour(says=says))
    bench = open_bench(server)
    names = ["leader", "second", "third"]
    bench.engine.put([bench.request(name, bench.pages[0]) for name in names], 0)
    bench.engine.put([bench.request("text alone")], 0)
    assert bench.take(1)[0][0].request_id == "text alone"
    assert not [asked for asked in server.asked if "second" in asked.text or "third" in asked.text]
    may_begin.set()
    assert {request.request_id for request, _ in bench.take(3)} == set(names)


def test_a_busy_server_is_given_less_and_an_idle_one_more(open_bench: Open) -> None:
    server = ProtocolServer(Behaviour(delay_s=1.0))
    bench = open_bench(server, given=("engine.max_concurrency=40",))
    questions(bench, 100)
    bench.take(100)
    assert 16 < server.most_at_once <= 40
    server.behaviour.waiting, server.behaviour.delay_s = 1000, 0.05

    def is_given_less() -> bool:
        server.most_at_once = 0
        questions(bench, 30)
        bench.take(30)
        return server.most_at_once <= 8

    wait_until(is_given_less, 60)


def test_the_limit_is_halved_once_for_many_refusals_and_grows_again() -> None:
    limit = Limit(256)
    for _ in range(100):
        limit.answered(limit.allowed)
    assert limit.allowed == 116
    for _ in range(50):
        limit.refused(10.0)
    assert limit.allowed == 58
    for _ in range(58):
        limit.answered(limit.allowed)
    assert limit.allowed in (58, 59)
    limit.answered(3)  # so few say nothing about what it can do
    assert limit.allowed in (58, 59)
    for second in range(100):
        limit.refused(20.0 + second)
    assert limit.allowed == 1


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7), ("0.5", 0.5), ("", None), ("soon", None), ("99999", 300), ("-3", 0), ("nan", None),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 0)],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(given: str, seconds: float | None) -> None:
    assert retry_after_s({"retry-after": given}) == seconds


def test_a_request_that_the_server_refuses_costs_its_own_row(open_bench: Open) -> None:
    def says(asked: Asked) -> list[dict[str, Any]] | tuple[int, str]:
        return (400, "this prompt is too odd") if "odd" in asked.text else protocol.reply("fine")

    bench = open_bench(ProtocolServer(Behaviour(says=says)))
    bench.engine.put([bench.request(name, bench.pages[0]) for name in ("odd", "even")], 0)
    said = {request.request_id: completion for request, completion in bench.take(2)}
    assert said["even"].failure is None
    assert said["odd"].failure is not None
    assert "too odd" in said["odd"].failure.message


@pytest.mark.parametrize(
    "chunks",
    [
        [{"choices": 7}],
        [{"choices": [{"index": 0, "delta": {"content": ["x"]}, "finish_reason": "stop"}]}],
        [{"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}],
        [*protocol.reply("fine")[:-1]],
        [*protocol.reply("fine", prompt_tokens="many")],
        [{"choices": [{"index": 0, "delta": {"content": "x" * 5_000_000}, "finish_reason": "stop"}]}],
        [{"error": {"message": "EngineDeadError", "code": 500}}],
    ],
    ids=["no list", "no text", "no end", "no usage", "no count", "endless", "error"],
)  # fmt: skip
def test_a_reply_that_is_none_is_asked_for_again_and_then_an_error_row(
    open_bench: Open, chunks: list[dict[str, Any]]
) -> None:
    server = ProtocolServer()
    bench = open_bench(server, given=("engine.attempts=2",))
    server.behaviour.says = lambda _: chunks
    bench.engine.put([bench.request("odd", bench.pages[0])], 0)
    ((_, said),) = bench.take(1)
    assert said.failure is not None
    assert "no usable reply in 2 attempts" in said.failure.message
    assert sum("odd" in asked.text for asked in server.asked) == 2


def test_a_request_that_servers_die_of_is_found_and_costs_its_own_row(open_bench: Open) -> None:
    server = ProtocolServer()

    def says(asked: Asked) -> list[dict[str, Any]]:
        if "deadly" in asked.text:
            threading.Thread(target=restart).start()
            time.sleep(0.4)
        return protocol.reply("fine")

    def restart() -> None:
        server.kill()
        time.sleep(0.3)
        server.start()

    server.behaviour.says = says
    bench = open_bench(server)
    bench.engine.put([bench.request(name) for name in ("deadly", "one", "two", "three")], 0)
    said = {request.request_id: completion.failure for request, completion in bench.take(4)}
    assert (said["one"], said["two"], said["three"]) == (None, None, None)
    assert said["deadly"] is not None
    assert "servers went away each time" in said["deadly"].message


@pytest.mark.parametrize(
    ("behaviour", "complaint"),
    [
        (Behaviour(context_tokens=4096), "context is 4,096 tokens; set model.context_tokens=4096"),
        (Behaviour(most_images=4), "refuses a prompt of 30 small images .*limit-mm-per-prompt"),
        (Behaviour(model="other"), "it serves other by vLLM 0.32.0 now, not tiny"),
        (
            Behaviour(says=lambda _: protocol.reply("x", prompt_tokens=11)),
            "counts 11 tokens .* 10 are counted",
        ),
        (Behaviour(key="sesame"), "refuses the key .*DOCBATCH_SERVER_KEY"),
    ],
)
def test_a_server_that_is_not_what_the_settings_say_is_told_before_anything_is_asked(
    open_bench: Open, behaviour: Behaviour, complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        open_bench(ProtocolServer(behaviour))


def test_a_schema_that_the_server_refuses_guides_nothing_and_costs_nothing(
    open_bench: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def says(asked: Asked) -> list[dict[str, Any]] | tuple[int, str]:
        return (400, "grammar error") if "structured_outputs" in asked.body else protocol.reply("fine")

    bench = open_bench(ProtocolServer(Behaviour(says=says)), envelope={"type": "object"})
    questions(bench, 3)
    assert [completion.failure for _, completion in bench.take(3)] == [None] * 3
    assert "replies are not guided: it refuses the schema (400: grammar error)" in caplog.text


def test_a_run_gives_up_when_no_server_replies_any_more(open_bench: Open) -> None:
    server = ProtocolServer()
    bench = open_bench(server, given=("engine.outage_s=1",))
    server.kill()
    questions(bench, 3)
    with pytest.raises(EngineLost, match=r"no server has replied .*engine.outage_s: http://127.*"):
        bench.take(3)


def test_a_server_that_comes_later_is_waited_for(open_bench: Open) -> None:
    server = ProtocolServer()
    server.kill()
    threading.Timer(0.6, server.start).start()
    bench = open_bench(server)
    questions(bench, 3)
    assert len(bench.take(3)) == 3


def test_a_server_that_comes_back_as_another_is_told_once_and_not_used(
    open_bench: Open, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "_POLL_S", 0.05)
    steady, changing = ProtocolServer(), ProtocolServer()
    bench = open_bench(steady, changing)
    changing.kill()
    questions(bench, 24)
    bench.take(24)
    wait_until(lambda: "its documents go to others" in caplog.text)
    changing.behaviour.version = "0.33.0"
    changing.start()
    wait_until(lambda: "not used" in caplog.text)
    questions(bench, 24)
    assert [completion.failure for _, completion in bench.take(24)] == [None] * 24
    warnings = [record.getMessage() for record in caplog.records if "not used" in record.getMessage()]
    assert len(warnings) == 1
    assert "it serves tiny by vLLM 0.33.0 now, not tiny by vLLM 0.32.0" in warnings[0]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ((), "no server is named; set engine.urls"),
        (("engine.urls=[http://me:secret@host:1]",), "holds a name or password"),
        (("engine.urls=[host:8000]",), "is no URL; write it as"),
        (("engine.urls=[http://host]", "engine.images=post"), "must be one of data, file"),
    ],
)
def test_settings_that_reach_no_server_are_told(
    compose: Callable[..., RunSettings], given: tuple[str, ...], complaint: str
) -> None:
    settings = compose("input=.", "engine=server", *given)
    with pytest.raises(SettingsError, match=complaint) as told:
        introduction.served(settings.engine.server, None)
    assert "secret" not in str(told.value)


def test_servers_that_serve_different_things_are_refused(compose: Callable[..., RunSettings]) -> None:
    servers = [ProtocolServer(Behaviour(version=version)) for version in ("0.31.0", "0.32.0")]
    with protocol.running(*servers), pytest.raises(SettingsError, match=r"0\.31\.0, .* 0\.32\.0; name"):
        settings = compose("input=.", "engine=server", f"engine.urls=[{servers[0].url},{servers[1].url}]")
        introduction.served(settings.engine.server, None)


def test_what_a_server_said_is_remembered_while_it_is_away(compose: Callable[..., RunSettings]) -> None:
    server = ProtocolServer()
    settings = compose("input=.", "engine=server", f"engine.urls=[{server.url}]", "engine.load_timeout_s=0.2")
    given = settings.engine.server
    assert introduction.served(given, None) == TINY
    server.kill()
    assert introduction.served(given, TINY) == TINY
    other = compose("input=.", "engine=server", f"engine.urls=[{server.url}]", "engine.load_timeout_s=0.2",
                    "engine.served_model=other")  # fmt: skip
    with pytest.raises(SettingsError, match="no server answers"):
        introduction.served(other.engine.server, TINY)
    with pytest.raises(SettingsError, match="no server answers"):
        introduction.served(given, None)


def test_metrics_are_read_whatever_else_is_in_them() -> None:
    text = (
        "# HELP vllm:num_requests_waiting Number\n# TYPE vllm:num_requests_waiting gauge\n"
        'vllm:num_requests_waiting{engine="0",model_name="a b"} 3.0\n'
        'vllm:num_requests_waiting{engine="1",model_name="a b"} 4.0\n'
        'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100"} 1.0\npython_gc 7\n'
    )
    assert talk.read_metrics(text) == talk.Metrics(waiting=7, cache_tokens=1600)
    assert talk.read_metrics("<html>no metrics here</html>") == talk.Metrics()
