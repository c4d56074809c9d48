//! Realistic events of a synthetic shop, the same for the same seed.

use crate::env::SeededEntropy;
use crate::event::{ErrorDetails, Event, JsonObject, Severity};
use crate::id::EventId;
use crate::text::Text;
use crate::time::Timestamp;

/// Draws numbers from a seed.
#[derive(Debug)]
pub struct Random(SeededEntropy);

impl Random {
    /// Creates the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    /// Returns a whole number below `bound`; 0 when the bound is.
    pub fn below(&self, bound: u64) -> u64 {
        // The high half of the product is uniform enough: the bias is below bound / 2^64.
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// Returns a number from 0, included, to 1, excluded.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub fn unit(&self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns whether something of this probability happens.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Returns one of the items; there must be one.
    ///
    /// # Panics
    /// When there is none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> &'a T {
        &items[usize::try_from(self.below(items.len() as u64)).unwrap_or(0)]
    }

    /// Returns an index below `count`; small ones are likelier, the first about `ln(count)` times the mean.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded"
    )]
    pub fn skewed(&self, count: u64) -> u64 {
        let drawn = (count as f64 + 1.0).powf(self.unit()) - 1.0;
        (drawn as u64).min(count.saturating_sub(1))
    }

    /// Returns a number near the standard normal distribution: the sum of twelve uniform ones, less six.
    pub fn normal(&self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

struct Endpoint {
    service: &'static str,
    path: &'static str,
    method: &'static str,
    event_type: &'static str,
    /// Median response time in milliseconds.
    median_ms: f64,
    /// Share of requests that fail.
    failures: f64,
}

const fn endpoint(
    service: &'static str,
    path: &'static str,
    method: &'static str,
    event_type: &'static str,
    median_ms: f64,
    failures: f64,
) -> Endpoint {
    Endpoint { service, path, method, event_type, median_ms, failures }
}

/// The endpoints of the shop, the busiest first.
const ENDPOINTS: [Endpoint; 12] = [
    endpoint("catalog", "/products", "GET", "api_call", 18.0, 0.002),
    endpoint("catalog", "/products/{id}", "GET", "page_view", 12.0, 0.002),
    endpoint("search", "/search", "GET", "search", 65.0, 0.006),
    endpoint("cart", "/cart", "GET", "api_call", 9.0, 0.001),
    endpoint("cart", "/cart/items", "POST", "cart_changed", 22.0, 0.004),
    endpoint("identity", "/login", "POST", "login", 140.0, 0.02),
    endpoint("recommendation", "/similar/{id}", "GET", "api_call", 48.0, 0.01),
    endpoint("checkout", "/orders", "POST", "order_placed", 210.0, 0.015),
    endpoint("payment", "/charges", "POST", "payment", 320.0, 0.03),
    endpoint("inventory", "/stock/{sku}", "PUT", "stock_changed", 15.0, 0.003),
    endpoint("mail", "/send", "POST", "mail_sent", 85.0, 0.008),
    endpoint("search", "/suggest", "GET", "api_call", 7.0, 0.001),
];

const PLANS: [&str; 4] = ["free", "starter", "team", "enterprise"];
const REGIONS: [&str; 5] = ["eu-central", "eu-west", "us-east", "us-west", "ap-south"];
const CURRENCIES: [&str; 3] = ["EUR", "USD", "GBP"];
const VERSIONS: [&str; 4] = ["4.2.0", "4.2.1", "4.3.0-rc.1", "4.3.0"];
const USER_AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "shop-app/7.1 (Android 15; Pixel 9)",
];
const REFERRERS: [&str; 3] =
    ["https://shop.example/", "https://shop.example/sale?utm_source=mail", "https://search.example/?q=shoes"];
const FAILURES: [(&str, &str, &str); 4] = [
    ("E_TIMEOUT", "TimeoutError", "upstream did not answer within 2000 ms"),
    ("E_DECLINED", "PaymentError", "the card was declined by the issuer"),
    ("E_STOCK", "ConflictError", "the last item was sold meanwhile"),
    ("E_DB", "PoolError", "no connection was free within 1000 ms"),
];

/// An endless iterator of events: about 890 bytes of JSON each, ids and timestamps ascending, like a shop with a slow payment
/// provider. The same seed gives the same events, bit for bit.
#[derive(Debug)]
pub struct EventGenerator {
    random: Random,
    seed: u64,
    number: u64,
    at_micros: i64,
    mean_gap_micros: u64,
}

impl EventGenerator {
    /// Creates the generator that belongs to `seed`: from 2026-01-01, one event in ten seconds on average.
    pub fn new(seed: u64) -> Self {
        Self::starting(seed, super::events::START, 10_000_000)
    }

    /// Creates a generator whose events start at an instant and follow each other in so many microseconds on average.
    pub fn starting(seed: u64, start: Timestamp, mean_gap_micros: u64) -> Self {
        Self { random: Random::new(seed), seed, number: 0, at_micros: start.as_micros(), mean_gap_micros }
    }

    /// Returns the next event.
    ///
    /// # Panics
    /// Never: what it writes is valid by construction.
    pub fn event(&mut self) -> Event {
        self.number += 1;
        let gap = self.random.below(2 * self.mean_gap_micros + 1);
        self.at_micros = self.at_micros.saturating_add(i64::try_from(gap).unwrap_or(i64::MAX));
        let id = format!("evt-{:08x}-{:012}", self.seed & 0xffff_ffff, self.number);
        let id = EventId::new(id).expect("the id is short and plain");
        let endpoint = &ENDPOINTS[usize::try_from(self.random.skewed(ENDPOINTS.len() as u64)).unwrap_or(0)];
        let mut event = Event::new(id, endpoint.event_type, Timestamp::from_micros(self.at_micros));
        let delay = i64::try_from(self.random.below(250_000)).unwrap_or(0);
        event.received_at = Timestamp::from_micros(self.at_micros + delay);
        self.describe(&mut event, endpoint);
        event.payload = self.payload(endpoint);
        event.metadata = JsonObject::parse(&format!(
            r#"{{"host":"node-{}","region":"{}","schema":3}}"#,
            self.random.below(12),
            self.random.pick(&REGIONS)
        ))
        .expect("the object is valid");
        event
    }

    fn describe(&self, event: &mut Event, endpoint: &Endpoint) {
        let random = &self.random;
        let user = random.skewed(5_000);
        event.source.service = Some(endpoint.service.into());
        event.source.endpoint = Some(endpoint.path.into());
        event.source.method = Some(endpoint.method.into());
        event.source.version = Some((*random.pick(&VERSIONS)).into());
        event.source.environment = Some(if random.chance(0.95) { "production" } else { "staging" }.into());
        event.context.user_id = random.chance(0.85).then(|| format!("user-{user}").into());
        event.context.session_id = Some(format!("sess-{user:x}-{:x}", random.below(6)).into());
        event.context.request_id =
            Some(format!("{:016x}{:016x}", random.below(u64::MAX), random.below(u64::MAX)).into());
        event.context.ip_address = Some(format!("198.51.{}.{}", user % 100, random.below(256)).into());
        event.context.user_agent = Some((*random.pick(&USER_AGENTS)).into());
        event.context.referrer = random.chance(0.4).then(|| (*random.pick(&REFERRERS)).into());
        event.context.tags.insert("region", *random.pick(&REGIONS));
        if random.chance(0.2) {
            event.context.tags.insert("experiment", if random.chance(0.5) { "blue" } else { "green" });
        }
        // Response times of services are near log-normal: many quick ones and a long tail.
        let response_ms = endpoint.median_ms * (0.6 * random.normal()).exp();
        event.metrics.response_time_ms = Some((response_ms * 1_000.0).round() / 1_000.0);
        event.metrics.request_size_bytes = Some(200 + random.below(1_800));
        event.metrics.response_size_bytes = Some(400 + random.skewed(200_000));
        event.metrics.cache_hit = (endpoint.method == "GET").then(|| random.chance(0.7));
        let failed = random.chance(endpoint.failures);
        let status = match (failed, endpoint.method) {
            (true, _) => *random.pick(&[500, 502, 503, 504]),
            (false, _) if random.chance(0.03) => *random.pick(&[400, 401, 404, 409, 422]),
            (false, "POST") => 201,
            _ => 200,
        };
        event.metrics.status_code = Some(status);
        event.severity = match status {
            500.. if endpoint.service == "payment" => Severity::Critical,
            500.. => Severity::Error,
            400.. => Severity::Warning,
            _ => Severity::Info,
        };
        event.title = Some(format!("{} {} {status}", endpoint.method, endpoint.path).into());
        event.message = Some(
            format!(
                "{} answered {} {} with {status} in {response_ms:.1} ms",
                endpoint.service, endpoint.method, endpoint.path
            )
            .into(),
        );
        event.error = failed.then(|| Box::new(self.failure(endpoint)));
    }

    fn failure(&self, endpoint: &Endpoint) -> ErrorDetails {
        let (code, error_type, message) = *self.random.pick(&FAILURES);
        let frame = |depth: u64| {
            format!(
                "at {}::handler_{depth} (src/{}.rs:{})",
                endpoint.service,
                endpoint.service,
                40 + depth * 17
            )
        };
        let stack: Vec<String> = (0..3 + self.random.below(5)).map(frame).collect();
        ErrorDetails {
            code: Some(code.into()),
            message: Some(message.into()),
            error_type: Some(error_type.into()),
            stack_trace: Some(Text::from(stack.join("\n"))),
        }
    }

    /// Every event has a plan and a cart or an order; some keys are rare.
    fn payload(&self, endpoint: &Endpoint) -> JsonObject {
        let random = &self.random;
        let mut fields = vec![
            format!(r#""currency":"{}""#, random.pick(&CURRENCIES)),
            format!(r#""total":{}.{:02}"#, random.skewed(900), random.below(100)),
        ];
        if random.chance(0.9) {
            fields.push(format!(r#""plan":"{}""#, PLANS[usize::try_from(random.skewed(4)).unwrap_or(0)]));
        }
        if matches!(endpoint.service, "cart" | "checkout" | "payment") {
            let item = |_| {
                format!(r#"{{"quantity":{},"sku":"sku-{:05}"}}"#, 1 + random.skewed(5), random.skewed(20_000))
            };
            let items: Vec<String> = (0..1 + random.skewed(4)).map(item).collect();
            fields.push(format!(r#""items":[{}]"#, items.join(",")));
        } else {
            fields.push(format!(
                r#""product":{{"category":"c{}","sku":"sku-{:05}"}}"#,
                random.skewed(40),
                random.skewed(20_000)
            ));
        }
        for (key, probability, value) in [
            ("coupon", 0.05, r#""SAVE10""#),
            ("gift", 0.02, "true"),
            ("retry_of", 0.01, r#"{"attempt":2}"#),
            ("note", 0.01, "null"),
        ] {
            if random.chance(probability) {
                fields.push(format!(r#""{key}":{value}"#));
            }
        }
        JsonObject::parse(&format!("{{{}}}", fields.join(","))).expect("the object is valid")
    }
}

impl Iterator for EventGenerator {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Some(self.event())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_events_of_the_usual_size() {
        let events: Vec<Event> = EventGenerator::new(1).take(500).collect();
        assert_eq!(events, EventGenerator::new(1).take(500).collect::<Vec<_>>());
        assert_ne!(events, EventGenerator::new(2).take(500).collect::<Vec<_>>());
        let bytes: usize = events.iter().map(|event| serde_json::to_string(event).unwrap().len()).sum();
        let mean = bytes / events.len();
        assert!((800..1_000).contains(&mean), "{mean} bytes of JSON on average");
    }

    #[test]
    fn events_ascend_and_some_fail() {
        let events: Vec<Event> = EventGenerator::new(5).take(5_000).collect();
        assert!(
            events.windows(2).all(|pair| pair[0].timestamp <= pair[1].timestamp && pair[0].id < pair[1].id)
        );
        let failed = events.iter().filter(|event| event.is_error()).count();
        assert!((20..250).contains(&failed), "{failed} of 5,000 failed");
    }
}
