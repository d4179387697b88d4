//! Every model holds for the ring, and each of its memory orderings is needed by one of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidewall_loom::{TWINS, models};

/// Preemptions per execution: enough for every bug of two threads that each do a few steps.
const PREEMPTIONS_MAX: usize = 3;

fn check(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS_MAX);
    builder.check(model);
}

#[test]
fn the_ring_holds_in_every_model() {
    for (name, model) in models::ALL {
        println!("{name}");
        check(*model);
    }
}

/// A model that cannot fail proves nothing: with one ordering weakened, some model must.
#[test]
fn every_weakened_twin_fails() {
    assert!(TWINS.len() >= 8, "the build script found the orderings");
    for (weakened, models) in TWINS {
        let caught = models
            .iter()
            .find(|(_, model)| catch_unwind(AssertUnwindSafe(|| check(*model))).is_err());
        let Some((name, _)) = caught else {
            panic!("no model notices {weakened} weakened to Relaxed");
        };
        println!("{weakened} weakened: caught by {name}");
    }
}
