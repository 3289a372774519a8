"""What starts and watches workers on machines: the `local` backend, and the supervisor it uses."""
