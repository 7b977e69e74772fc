"""Sessions of the official MCP SDK with Engram, with a server that is killed in the middle. See tests/mcp/run."""

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path

import mcp
from mcp import StdioServerParameters

ENGRAM = str(Path(sys.argv[1]).resolve())
TOOLS = {"remember", "recall", "get_memory", "list_memories", "update_memory", "forget", "memory_status"}
IS_NEW = hasattr(mcp, "Client")


class Session:
    """The same over both SDKs, which name things differently."""

    def __init__(self, client, version, name, instructions):
        self.client, self.version, self.name, self.instructions = client, version, name, instructions

    async def tools(self):
        return (await self.client.list_tools()).tools

    async def result(self, tool, **arguments):
        return await self.client.call_tool(tool, arguments)

    async def call(self, tool, **arguments):
        """What a tool answers. The SDK itself holds it against the tool's output schema, where it is new enough."""
        result = await self.result(tool, **arguments)
        assert not field(result, "is_error"), result
        assert field(result, "structured_content") is not None and result.content[0].text, result
        return field(result, "structured_content")

    async def refusal(self, tool, **arguments):
        """What a model reads of a tool that does nothing."""
        result = await self.result(tool, **arguments)
        assert field(result, "is_error"), result
        return result.content[0].text


def field(it, name):
    """`is_error` of the new SDK is `isError` of the old one."""
    head, *rest = name.split("_")
    return getattr(it, name) if IS_NEW else getattr(it, head + "".join(word.title() for word in rest))


@asynccontextmanager
async def session(target, mode):
    if IS_NEW:
        async with mcp.Client(target, mode=mode) as client:
            yield Session(client, client.protocol_version, getattr(client.server_info, "name", None), client.instructions)
        return
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamablehttp_client

    streams = streamablehttp_client(target) if isinstance(target, str) else stdio_client(target)
    async with streams as (read, write, *_), mcp.ClientSession(read, write) as client:
        hello = await client.initialize()
        yield Session(client, hello.protocolVersion, hello.serverInfo.name, hello.instructions)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def holder(data_dir):
    return int((data_dir / "wal" / "LOCK").read_text())


def kill(data_dir):
    os.kill(holder(data_dir), signal.SIGKILL)


def start(data_dir, port):
    """A server that listens when this returns."""
    server = subprocess.Popen(
        [ENGRAM, "start", "--data-dir", data_dir, "--listen", f"127.0.0.1:{port}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in server.stderr:
        if "listening on" in line:
            return server
    raise AssertionError(f"the server ended with {server.wait()}")


async def use(session, restart):
    """Every tool, with a server that is killed and comes back by `restart`."""
    if session.name is not None:  # who pins the revision has not asked
        assert session.name == "engram" and "memory" in session.instructions, session.name
    tools = {tool.name: tool for tool in await session.tools()}
    assert tools.keys() == TOOLS, tools.keys()
    for tool in tools.values():
        assert tool.annotations is not None and tool.description, tool.name
    assert field(tools["recall"].annotations, "read_only_hint") is True
    assert field(tools["forget"].annotations, "destructive_hint") is True

    receipt = await session.call("remember", content="Ada prefers green tea", id="tea", metadata={"user": "ada"})
    assert (receipt["outcome"], receipt["durability"]) == ("created", "synced"), receipt
    await session.call("remember", content="Grace is flying to Lisbon on Friday", when="2026-03-01T09:30:00Z")

    restart()

    recalled = await session.call("recall", query="what tea does Ada drink?", limit=1)
    assert [it["id"] for it in recalled["results"]] == ["tea"], recalled
    assert recalled["results"][0]["metadata"] == {"user": "ada"}, recalled
    status = await session.call("memory_status")
    assert status["memories"] == 2 and status["writes"] == "durable", status

    page = await session.call("list_memories", limit=1)
    assert page["memories"][0]["content"].startswith("Grace") and page["next_cursor"], page
    page = await session.call("list_memories", cursor=page["next_cursor"], filter={"user": "ada"})
    assert [it["id"] for it in page["memories"]] == ["tea"] and page["next_cursor"] is None, page

    await session.call("update_memory", id="tea", content="Ada prefers black tea", metadata={"since": 2026})
    tea = await session.call("get_memory", id="tea")
    assert tea["content"] == "Ada prefers black tea", tea
    assert tea["metadata"] == {"user": "ada", "since": 2026}, tea

    text = await session.refusal("remember", content="something else", id="tea")
    assert "update_memory" in text, text
    text = await session.refusal("recall", query="tea", limit=0)
    assert "limit" in text and "What to do" in text, text
    text = await session.refusal("get_memory", id="coffee")
    assert text.startswith("not_found: ") and "recall" in text, text
    text = await session.refusal("recall", query="tea", space="nowhere")
    assert "memory_status" in text, text

    gone = await session.call("forget", filter={"user": "ada"}, dry_run=True)
    assert (gone["matched"], gone["deleted"], gone["ids"]) == (1, 0, ["tea"]), gone
    gone = await session.call("forget", id="tea")
    assert gone["deleted"] == 1, gone
    recalled = await session.call("recall", query="tea")
    assert recalled["results"] == [], recalled


async def over_stdio(mode):
    """`engram mcp` starts the server, and starts it again."""
    with tempfile.TemporaryDirectory() as directory:
        data_dir = Path(directory) / "data"
        command = StdioServerParameters(
            command=ENGRAM,
            args=["mcp", "--server", f"http://127.0.0.1:{free_port()}", "--data-dir", str(data_dir)],
        )
        begun = time.monotonic()
        async with session(command, mode) as it:
            print(f"  stdio, {mode}: {it.version}, handshake after {time.monotonic() - begun:.2f} s")
            await use(it, lambda: kill(data_dir))
        # It serves others, too, and has outlived the session. It has the lock until its end.
        os.kill(holder(data_dir), signal.SIGTERM)
        lock = os.open(data_dir / "wal", os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)


async def over_http(mode):
    with tempfile.TemporaryDirectory() as directory:
        data_dir, port = Path(directory) / "data", free_port()
        servers = [start(data_dir, port)]

        def restart():
            kill(data_dir)
            servers[-1].wait()
            servers.append(start(data_dir, port))

        try:
            async with session(f"http://127.0.0.1:{port}/mcp", mode) as it:
                print(f"  HTTP, {mode}: {it.version}")
                await use(it, restart)
        finally:
            servers[-1].kill()
            servers[-1].wait()


async def main():
    print("the new SDK" if IS_NEW else "the old SDK")
    for mode in ["auto", "2026-07-28", "legacy"] if IS_NEW else ["initialize"]:
        await over_stdio(mode)
        await over_http(mode)


asyncio.run(main())
