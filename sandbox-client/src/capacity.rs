//! How many machines a service needs: running, and ready before anyone asks.
//!
//! By Little's law what is in a system is the rate at which it comes times how long it stays. Of
//! sessions that come at random and independently as many again as three standard deviations are
//! there at once but for one moment in a thousand (Poisson: the variance is the mean).

use std::time::Duration;

use serde::Serialize;

/// What a service is to carry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    pub arrivals_per_minute: f64,
    /// From a sandbox's creation to its destruction.
    pub session: Duration,
    /// Sandboxes that are asked for at one moment and are not to wait.
    pub burst: u32,
    /// How long it takes to make one ready.
    pub making: Duration,
    /// Private memory of one that is ready or idle.
    pub bytes_each: u64,
    /// What all share: the template.
    pub bytes_shared: u64,
}

/// What that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Sessions that run at one time, on average.
    pub running: u64,
    /// At most, but for one moment in a thousand.
    pub running_at_most: u64,
    /// Clones to hold ready.
    pub ready: u64,
    /// For all of them, when they run at most.
    pub bytes: u64,
}

/// Clones to hold ready where `rate` are asked for each second and each takes `making` to replace:
/// those that come meanwhile, and `burst`.
pub fn ready(rate: f64, making: Duration, burst: u32) -> u64 {
    whole(rate * making.as_secs_f64()).saturating_add(u64::from(burst))
}

/// Computes what a load takes. What is no number counts as nothing.
pub fn plan(load: &Load) -> Plan {
    let rate = load.arrivals_per_minute / 60.0;
    let running = rate * load.session.as_secs_f64();
    let running = if running.is_finite() {
        running.max(0.0)
    } else {
        0.0
    };
    let running_at_most = whole(running + 3.0 * running.sqrt()).max(u64::from(load.burst));
    let ready = ready(rate, load.making, load.burst);
    let machines = running_at_most.saturating_add(ready);
    Plan {
        running: whole(running),
        running_at_most,
        ready,
        bytes: machines
            .saturating_mul(load.bytes_each)
            .saturating_add(load.bytes_shared),
    }
}

/// The next whole number; casts stop at the ends.
fn whole(number: f64) -> u64 {
    number.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        arrivals_per_minute: 30.0,
        session: Duration::from_secs(120),
        burst: 2,
        making: Duration::from_millis(400),
        bytes_each: 60 << 20,
        bytes_shared: 100 << 20,
    };

    #[test]
    fn a_load_takes_what_comes_times_how_long_it_stays() {
        // 0.5 a second: 60 at a time, 60 + 3 √60 at most, and one more while one is replaced.
        let expected = Plan {
            running: 60,
            running_at_most: 84,
            ready: 3,
            bytes: (87 * 60 + 100) << 20,
        };
        assert_eq!(plan(&LOAD), expected);
        let nothing = Load {
            arrivals_per_minute: 0.0,
            ..LOAD
        };
        assert_eq!(plan(&nothing).running, 0);
        assert_eq!(plan(&nothing).ready, 2);
    }

    #[test]
    fn what_is_no_load_is_a_plan_all_the_same() {
        for rate in [f64::NAN, f64::INFINITY, -5.0, f64::MAX] {
            let odd = Load {
                arrivals_per_minute: rate,
                session: Duration::MAX,
                ..LOAD
            };
            assert!(plan(&odd).running_at_most >= 2, "{rate}");
        }
    }
}
