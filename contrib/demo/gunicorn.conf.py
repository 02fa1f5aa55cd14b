"""How gunicorn serves the demo's app."""

import os

# Only where no supervisor passes a socket at fd 3 (LISTEN_FDS).
bind = f"127.0.0.1:{os.environ.get('DEMO_PORT', '5000')}"

# One import for all workers: they share its pages, and a failure in it ends the master with a traceback.
preload_app = True
threads = 4

# A stop is done well within PM2's 1.6 s, whatever the clients do.
graceful_timeout = 1
keepalive = 1

accesslog = "-"
control_socket_disable = True


def post_worker_init(worker):
    import flask_faults

    if worker.age == 1:
        flask_faults.begin_from_environment()


def child_exit(server, worker):
    """In the master: the fault `exit` ends it with its own code, after an orderly stop of the other worker."""
    from gunicorn.errors import HaltServer

    import flask_faults

    code = flask_faults.value("exit")
    if code is not None:
        flask_faults.switch("exit", None)  # gunicorn calls this again while it stops the others
        raise HaltServer("the fault exit is on", int(code))
