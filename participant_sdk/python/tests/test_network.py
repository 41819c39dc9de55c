"""A network between here and the coordinator that swallows everything and says nothing."""

import selectors
import socket
import threading
import time

from conftest import take

import assent


class Relay:
    """Passes connections on. Those that are there when `swallow` is called stay open, and nothing gets through."""

    def __init__(self, target: str) -> None:
        host, port = target.split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._epoch = 0
        self._stop = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def swallow(self) -> None:
        self._epoch += 1

    def _accept(self) -> None:
        self._listener.settimeout(0.1)
        while not self._stop:
            try:
                client = self._listener.accept()[0]
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._pass_on, args=(client, self._epoch))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, client: socket.socket, epoch: int) -> None:
        with client, socket.create_connection(self._target) as server, selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, server)
            selector.register(server, selectors.EVENT_READ, client)
            while not self._stop:
                for key, _ in selector.select(0.1):
                    data = key.fileobj.recv(65536)
                    if epoch != self._epoch:
                        selector.unregister(key.fileobj)
                    elif data:
                        key.data.sendall(data)
                    else:
                        return

    def close(self) -> None:
        self._stop = True
        for thread in self._threads:
            thread.join()
        self._listener.close()


def test_a_network_that_swallows_everything_is_noticed(rig):
    """Without a look at the connection a call would wait there until its patience ends."""
    relay = Relay(rig.coordinator.address)
    try:
        with assent.Client(relay.address, options=assent.ClientOptions(call_patience=120)) as client:
            with client.transaction() as tx:
                tx.branch("orders", rig.orders.connect()).execute(take())
            client.flush(10)
            relay.swallow()
            begun = time.monotonic()
            with client.transaction() as tx:
                tx.branch("orders", rig.orders.connect()).execute(take())
            assert time.monotonic() - begun < 45
    finally:
        relay.close()
    assert rig.taken("orders") == 2
