//! Random schedules of unisono; the crowd is in `tests/`.
