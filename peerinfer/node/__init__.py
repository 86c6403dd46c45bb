"""One whole node put together: it wires every room by handing values in, knows everybody and decides nothing."""
