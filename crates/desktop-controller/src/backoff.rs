//! Waiting between tries.

use std::time::Duration;

/// Growing pauses between tries, with jitter so that a thousand clients don't come back at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    pause: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { pause: Duration::from_millis(250) }
    }
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(30);

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(Self::LONGEST);
        // Without random numbers all clients wait alike, which still works.
        let mut byte = [128u8];
        let _ = getrandom::fill(&mut byte);
        pause.mul_f64(0.75 + f64::from(byte[0]) / 512.0)
    }

    pub(crate) async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }
}
