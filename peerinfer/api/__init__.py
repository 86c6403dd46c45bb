"""Local HTTP: the OpenAI shape, state and admin routes, and the guard that every route and bind address passes."""
