"""The probe that speaks HTTP/2: one connection with a request every 10 ms, until the door says that it goes away."""

import asyncio
import ssl

import h2.config
import h2.connection
import h2.events
import h2.exceptions

# h2 takes no more answers after a GOAWAY, though those to earlier requests are on their way by the protocol.
STATES = h2.connection.H2ConnectionStateMachine._transitions
OPEN, GOAWAY = h2.connection.ConnectionState.CLIENT_OPEN, h2.connection.ConnectionInputs.RECV_GOAWAY
STATES[OPEN, GOAWAY] = (None, OPEN)
PACE = 0.01
PATIENCE = 10


class Session:
    def __init__(self, probe, tally):
        self.probe, self.tally, self.waiting, self.going = probe, tally, {}, False

    async def open(self):
        context = ssl._create_unverified_context()
        context.set_alpn_protocols(["h2"])
        opening = asyncio.open_connection("127.0.0.1", self.probe["port"], ssl=context, server_hostname=self.probe["host"])
        self.reader, self.writer = await asyncio.wait_for(opening, PATIENCE)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.reading = asyncio.create_task(self.read())

    def flush(self):
        self.writer.write(self.h2.data_to_send())

    def ask(self):
        stream = self.h2.get_next_available_stream_id()
        self.waiting[stream] = ""
        authority = f"{self.probe['host']}:{self.probe['port']}"
        headers = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/")]
        self.h2.send_headers(stream, headers, end_stream=True)
        self.flush()

    async def read(self):
        """Until the connection ends; what is unanswered then has failed."""
        why = "closed"
        try:
            while data := await self.reader.read(65536):
                for event in self.h2.receive_data(data):
                    self.take(event)
                self.flush()
                if self.going and not self.waiting:
                    break
        except (OSError, h2.exceptions.ProtocolError) as error:
            why = f"{type(error).__name__} {error}"
        self.going = True
        for _ in self.waiting:
            self.tally.bad(why)
        self.tally.closed += 1
        self.waiting = {}
        self.writer.close()

    def take(self, event):
        stream = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.ResponseReceived):
            self.waiting[stream] = dict(event.headers)[":status"]
        elif isinstance(event, h2.events.StreamEnded):
            status = self.waiting.pop(stream)
            self.tally.good() if status == "200" else self.tally.bad(f"status {status}")
        elif isinstance(event, h2.events.StreamReset):
            self.waiting.pop(stream, None)
            self.tally.bad(f"stream reset {event.error_code}")
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.going = True
            for refused in [at for at in self.waiting if at > (event.last_stream_id or 0)]:
                # By the protocol such a request wasn't looked at and may be sent again: the client has a right to.
                self.waiting.pop(refused)


async def probe(probe, tally):
    session = None
    while True:
        try:
            if session is None or session.going:
                session = Session(probe, tally)
                await session.open()
            session.ask()
        except (OSError, asyncio.TimeoutError, h2.exceptions.ProtocolError) as error:
            if not session.going:
                tally.bad(error)
            session = None
        await asyncio.sleep(PACE)
