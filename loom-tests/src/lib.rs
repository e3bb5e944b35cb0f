//! Model checking of unisono; the models are in `tests/`.
