"""The inference listener: HTTP/1.1 for clients, and deadlines for whatever they may drag out."""

from gateway.listener.connection import ClientConnection
from gateway.listener.request import ClientGoneError, ClientRequest
from gateway.listener.server import Listener

__all__ = ["ClientConnection", "ClientGoneError", "ClientRequest", "Listener"]
