//! The answer, printed as it comes.

/// Rates of one scenario; the first is ours.
pub(crate) struct Scenario {
    ours: Option<f64>,
}

impl Scenario {
    /// Starts a scenario.
    pub(crate) fn new(title: &str) -> Self {
        println!("\n{title}");
        Self { ours: None }
    }

    /// Prints a rate, and how many times as fast ours is.
    pub(crate) fn rate(&mut self, name: &str, rate: f64) {
        match self.ours {
            Some(ours) => println!("  {name:<58} {rate:>10.0} /s   ours is {:.2} times as fast", ours / rate),
            None => {
                println!("  {name:<58} {rate:>10.0} /s");
                self.ours = Some(rate);
            }
        }
    }
}
