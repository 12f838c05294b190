//! A clone that did not go on: whether its template is broken or the computer busy.
//!
//! One that ended, or said no, may have been killed by a computer that ran out of memory: another
//! is tried. When that fails too the template is made again, and when nothing goes on from the new
//! one either there is none for [`GIVEN_UP`]. One that said nothing in time says little of its
//! template, so that stays; only silence that nothing interrupts is taken for a fault.

use std::time::Duration;

use super::monitor::Why;

/// How long machines boot for themselves where no template is of use.
pub(super) const GIVEN_UP: Duration = Duration::from_secs(600);
/// Clones in a row that end, or say no, before their template is called broken.
const ENOUGH: u32 = 2;
/// Clones in a row that say nothing.
const ENOUGH_SILENCE: u32 = 3;

/// What a machine did in place of what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ended, or said no.
    Broken(Why),
    /// It did not answer in time.
    Silent(Why),
}

impl Fault {
    pub(super) fn why(self) -> Why {
        match self {
            Self::Broken(why) | Self::Silent(why) => why,
        }
    }
}

/// What to do after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another clone of the same template.
    Again,
    /// A clone of a template that is made anew.
    Remake,
    /// A machine that boots for itself. The template is kept for whoever comes next.
    Boot,
    /// The same, and there is no template for a while.
    GiveUp,
}

/// Faults of one template's clones since one went on.
#[derive(Debug, Default)]
pub(super) struct Faults {
    n_broken: u32,
    n_silent: u32,
    /// Whether the template was made in place of another of which nothing went on.
    is_remade: bool,
}

impl Faults {
    /// Counts a fault, and says what to do.
    pub(super) fn judge(&mut self, fault: &Fault) -> Next {
        let (count, enough, otherwise) = match fault {
            Fault::Broken(_) => (&mut self.n_broken, ENOUGH, Next::Again),
            Fault::Silent(_) => (&mut self.n_silent, ENOUGH_SILENCE, Next::Boot),
        };
        *count += 1;
        if *count < enough {
            return otherwise;
        }
        let was_remade = self.is_remade;
        *self = Self {
            is_remade: !was_remade,
            ..Self::default()
        };
        match was_remade {
            true => Next::GiveUp,
            false => Next::Remake,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of clones that broke (`b`), said nothing (`s`) or went on (`+`).
    fn judged(clones: &str) -> String {
        let mut faults = Faults::default();
        let mut judge = |clone: char| {
            let fault = match clone {
                'b' => Fault::Broken(String::new()),
                's' => Fault::Silent(String::new()),
                _ => {
                    faults = Faults::default();
                    return "on".to_owned();
                }
            };
            format!("{:?}", faults.judge(&fault)).to_lowercase()
        };
        clones.chars().map(&mut judge).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_broken_template_is_made_again_once_and_a_slow_computer_costs_none() {
        for (clones, expected) in [
            ("bb", "again remake"),
            ("bbbb", "again remake again giveup"),
            ("b+b+b", "again on again on again"),
            ("bb+bb", "again remake on again remake"),
            ("ss+ss", "boot boot on boot boot"),
            ("sss", "boot boot remake"),
            ("ssssss", "boot boot remake boot boot giveup"),
            ("sbsb", "boot again boot remake"),
        ] {
            assert_eq!(judged(clones), expected, "{clones}");
        }
    }
}
