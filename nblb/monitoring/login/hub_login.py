"""The login of JupyterHub, for a Monitor that runs as one of its services.

JupyterHub's own HubOAuth does it: its state and scopes are those that JupyterHub checks and keeps up to date. A header
such as X-Forwarded-User would be believed from everybody who reaches the port past the proxy, so there is none.
"""

from __future__ import annotations

import os
from typing import Any

from tornado.web import authenticated

from nblb.errors import NblbError
from nblb.monitoring.login.gate import LoginGate
from nblb.monitoring.login.handlers import GateHandler

LOGIN_S = 3600.0  # then JupyterHub is asked again, of which its users see nothing


def is_service() -> bool:
    """Return True in the process of a service of JupyterHub; a user's own server has such variables, too."""
    named = os.environ.get("JUPYTERHUB_SERVICE_NAME"), os.environ.get("JUPYTERHUB_API_TOKEN")
    return all(named) and not os.environ.get("JUPYTERHUB_USER")


def service_prefix() -> str:
    """Return the path at which JupyterHub serves this service."""
    return os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/")


def patterns(gate: LoginGate) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of this login.

    Raises
    ------
    NblbError
        The package jupyterhub is missing.
    """
    try:
        from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
    except ImportError:
        raise NblbError(
            "the Monitor runs as a service of JupyterHub, and its login needs: pip install 'nblb[hub]'"
        ) from None

    class HubLoginHandler(HubOAuthenticated, GateHandler):
        """Sends the browser to JupyterHub's login, and on to the page with a cookie of our own."""

        @authenticated
        def get(self) -> None:
            name = str(self.current_user["name"])
            place, _, query = self.get_query_argument("next", "").partition("?")
            self.enter(gate.people.named(name), LOGIN_S, place, query)

    return [("/hub-login", HubLoginHandler, {"gate": gate}), ("/oauth_callback", HubOAuthCallbackHandler, {})]
