//! The questions, as ours and as SQL.

use pulsestream_core::Filter;
use pulsestream_core::event::Severity;
use pulsestream_core::query::{AggregateOrder, AggregateQuery, FindQuery, OrderKey};
use pulsestream_core::time::TimeRange;

/// How a question is asked of our store.
pub(crate) enum Ask {
    Aggregate(AggregateQuery),
    Find(FindQuery),
    /// One event by its id.
    Get,
    /// An aggregate over the store with a thousand events.
    Small(AggregateQuery),
}

/// A question to both.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) ask: Ask,
    /// SQL with the tenant as the first parameter, and the id as the second one for [`Ask::Get`].
    pub(crate) sql: String,
    /// The same with values read out of the JSON text.
    pub(crate) extracting: Option<String>,
    /// Whether it is also asked for all tenants in turn.
    pub(crate) in_turn: bool,
    /// Whether it is one of those that the mean is about.
    pub(crate) counts: bool,
    /// How many columns at the front say which row it is.
    pub(crate) keys: usize,
}

fn aggregate(group_by: &[&str], bucket: Option<&str>, measures: &[&str]) -> AggregateQuery {
    let parse = "the questions are well-formed";
    AggregateQuery {
        group_by: group_by.iter().map(|path| path.parse().expect(parse)).collect(),
        bucket: bucket.map(|bucket| bucket.parse().expect(parse)),
        measures: measures.iter().map(|measure| measure.parse().expect(parse)).collect(),
        max_groups: 100_000,
        ..AggregateQuery::default()
    }
}

pub(crate) fn all() -> Vec<Question> {
    let parse = "the questions are well-formed";
    let (from, to) = ("2026-01-15T00:00:00Z", "2026-01-22T00:00:00Z");
    let week = TimeRange::new(from.parse().expect(parse), to.parse().expect(parse));
    let by_type = || aggregate(&["event_type"], None, &["count"]);
    let by_type_sql = "SELECT event_type, count(*) FROM {table} WHERE tenant = $1 GROUP BY 1";
    let question = |name, query, sql: &str| Question {
        name,
        ask: Ask::Aggregate(query),
        sql: sql.to_owned(),
        extracting: None,
        in_turn: true,
        counts: true,
        keys: 1,
    };
    let percentiles =
        ["p50", "p95", "p99"].map(|percentile| format!("{percentile}(metrics.response_time_ms)"));
    let [p50, p95, p99] = &percentiles;
    let error = Severity::Error as u8;
    let search = "source.service = 'payment' and metrics.status_code >= 500 and severity = 'critical' \
                  and message contains 'with 503'";
    let sparse = "SELECT {coupon}, count(*), avg({total}) FROM {table} WHERE tenant = $1 GROUP BY 1";
    vec![
        question("count by type", by_type(), by_type_sql),
        Question {
            keys: 2,
            ..question(
                "hourly count, exact p50, p95, p99 per service, 7 days",
                AggregateQuery { range: week, ..aggregate(&["source.service"], Some("1h"), &["count", p50, p95, p99]) },
                &format!(
                    "SELECT epoch_us(hour), service, n, q[1], q[2], q[3] FROM (
                       SELECT time_bucket(INTERVAL 1 HOUR, timestamp) AS hour, service, count(*) AS n,
                              quantile_cont(response_time_ms, [0.5, 0.95, 0.99]) AS q
                       FROM {{table}} WHERE tenant = $1 AND timestamp >= TIMESTAMP '{}' AND timestamp < TIMESTAMP '{}'
                       GROUP BY 1, 2)",
                    &from[..10],
                    &to[..10]
                ),
            )
        },
        Question {
            keys: 2,
            ..question(
                "error rate per service and endpoint, top 20",
                AggregateQuery {
                    order: AggregateOrder { by: OrderKey::Measure(0), descending: true },
                    limit: Some(20),
                    ..aggregate(&["source.service", "source.endpoint"], None, &["error_rate", "count"])
                },
                &format!(
                    "SELECT service, endpoint,
                            count(*) FILTER (severity >= {error} OR status_code >= 500) / count(*) AS rate, count(*)
                     FROM {{table}} WHERE tenant = $1 GROUP BY 1, 2 ORDER BY rate DESC, 1, 2 LIMIT 20"
                ),
            )
        },
        question(
            "distinct users per day",
            aggregate(&[], Some("day"), &["count_distinct(context.user_id)"]),
            "SELECT epoch_us(date_trunc('day', timestamp)), count(DISTINCT user_id) FROM {table} WHERE tenant = $1 GROUP BY 1",
        ),
        Question {
            extracting: Some(sparse.replace("{coupon}", "payload->>'$.coupon'").replace(
                "{total}",
                "CAST(payload->>'$.total' AS DOUBLE)",
            )),
            ..question(
                "group by a sparse payload key",
                aggregate(&["payload.coupon"], None, &["count", "avg(payload.total)"]),
                &sparse.replace("{coupon}", "payload_coupon").replace("{total}", "payload_total"),
            )
        },
        Question {
            counts: false,
            ask: Ask::Find(FindQuery { filter: Some(Filter::parse(search).expect(parse)), ..FindQuery::default() }),
            ..question(
                "newest 100: three predicates and a text",
                by_type(),
                &format!(
                    "SELECT * FROM {{table}} WHERE tenant = $1 AND service = 'payment' AND status_code >= 500
                       AND severity = {} AND contains(message, 'with 503')
                     ORDER BY timestamp DESC, id DESC LIMIT 100",
                    Severity::Critical as u8
                ),
            )
        },
        Question {
            counts: false,
            in_turn: false,
            ask: Ask::Get,
            ..question("by id", by_type(), "SELECT * FROM {table} WHERE id = $2 AND tenant = $1")
        },
        Question {
            counts: false,
            in_turn: false,
            ask: Ask::Small(by_type()),
            ..question("count by type over 1,000 events", by_type(), &by_type_sql.replace("{table}", "small"))
        },
    ]
}
