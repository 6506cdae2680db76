"""A WebSocket in this process, from the server's side."""

import asyncio

from asking import request_facts


class Connection:
    """A WebSocket from the server's side: what the client says is put into it, what it hears is kept."""

    def __init__(self, club, headers) -> None:
        self.heard = []
        self.says = asyncio.Queue()
        self.says.put_nowait({"type": "websocket.connect"})
        facts = request_facts(headers={"Origin": "http://localhost", **headers}, type="websocket")
        self.task = asyncio.create_task(club.served(facts.scope, self.says.get, self._hear))

    async def _hear(self, message) -> None:
        self.heard.append(message)

    async def until(self, count: int) -> list:
        """Wait until the client has heard so many messages."""
        async with asyncio.timeout(5):
            while len(self.heard) < count:
                await asyncio.sleep(0)
        return self.heard

    async def over(self) -> None:
        """Wait until the app has returned, and raise what it raised."""
        async with asyncio.timeout(5):
            await self.task

    @property
    def types(self) -> list[str]:
        return [message["type"].removeprefix("websocket.") for message in self.heard]
