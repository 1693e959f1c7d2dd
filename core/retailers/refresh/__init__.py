"""Month after month: new sales assigned, drift measured, refits gated and published."""
