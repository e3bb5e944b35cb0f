//! `cargo bench -p bench-parts`; behind `--` criterion's arguments, such as a part of a name.

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    bench_parts::line::bench(&mut criterion);
    bench_parts::room::bench(&mut criterion);
    bench_parts::session::bench(&mut criterion);
    criterion.final_summary();
}
