//! `/api/v2/dashboard`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{START, Server, Shop};
use crate::v2::alerting::stored;

async fn shop_with_an_incident(server: &Server) -> Shop {
    let shop = server.tenant("shop").await;
    let rule = json!({"name": "=cmd|x", "severity": "high", "condition": {"type": "count", "min_count": 3}});
    let rule = server.call("POST", "/api/v1/alerting/rules", &shop.key, Some(&rule)).await.json();
    let event = |service: &str, status: u16| {
        json!({
            "event_type": "api_call", "title": "t", "source": {"service": service, "endpoint": "/a", "method": "GET"},
            "metrics": {"status_code": status, "response_time_ms": 20}
        })
    };
    let events = json!({"events": [event("good", 200), event("good", 200), event("bad", 500)]});
    server.call("POST", "/api/v1/ingestion/events/batch", &shop.key, Some(&events)).await;
    let test = format!("/api/v1/alerting/rules/{}/test", rule["rule_id"].as_str().unwrap());
    assert!(server.call("POST", &test, &shop.key, None).await.json()["alert_id"].is_string());
    shop
}

async fn get(server: &Server, shop: &Shop, path: &str) -> Value {
    let answer = server.call("GET", &format!("/api/v2/dashboard/{path}"), &shop.key, None).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

#[tokio::test]
async fn alerts_come_from_the_real_alerts() {
    let server = Server::start().await;
    let shop = shop_with_an_incident(&server).await;
    let mut summary = get(&server, &shop, "alerts/summary").await;
    let recent = summary["recent_alerts"].take();
    assert_eq!(
        summary,
        json!({
            "total_alerts": 1, "critical_count": 1, "warning_count": 0, "info_count": 0, "recent_alerts": null,
            "alert_trends": {
                "total_alerts": 1, "critical_count": 1, "warning_count": 0, "info_count": 0, "alerts_today": 1,
                "alerts_this_week": 1, "alerts_this_month": 1, "trend_direction": "increasing"
            },
            "last_updated": "2026-01-15T12:00:00Z",
        })
    );
    let names: Vec<_> = recent[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["id", "message", "rule_name", "severity", "status", "title", "triggered_at"]);
    assert_eq!((&recent[0]["severity"], &recent[0]["status"]), (&json!("critical"), &json!("active")));
}

#[tokio::test]
async fn severities_are_three_and_trends_compare_two_weeks() {
    use pulsestream::core::alerting::AlertSeverity::{Critical, High, Low, Medium};
    use pulsestream::core::time::Timestamp;
    let server = Server::start().await;
    let mut number = 0;
    // Days before now at which an alert of a severity started.
    for (slug, alerts, trend) in [
        ("rising", vec![(Low, 0), (Medium, 2), (High, 6), (Critical, 8)], "increasing"),
        ("falling", vec![(Critical, 1), (High, 9), (Low, 10), (Low, 29)], "decreasing"),
        ("level", vec![(Medium, 3), (Medium, 12), (Medium, 31)], "stable"),
        ("quiet", vec![], "stable"),
    ] {
        let shop = server.tenant(slug).await;
        for (severity, days) in &alerts {
            number += 1;
            stored(&server, &shop, number, |change| {
                let at = Timestamp::from_seconds(START - days * 86_400 - 3_600);
                change.severity = *severity;
                (change.transition.at, change.transition.started_at) = (at, at);
                change.transition.fired_at = Some(at);
            })
            .await;
        }
        let summary = get(&server, &shop, "alerts/summary").await;
        let of = |names: &[pulsestream::core::alerting::AlertSeverity]| {
            json!(alerts.iter().filter(|(severity, _)| names.contains(severity)).count())
        };
        let within = |days| json!(alerts.iter().filter(|(_, it)| *it < days).count());
        for counts in [&summary, &summary["alert_trends"]] {
            assert_eq!(counts["total_alerts"], json!(alerts.len()), "{slug}: {summary}");
            assert_eq!(counts["critical_count"], of(&[High, Critical]), "{slug}: {summary}");
            assert_eq!(counts["warning_count"], of(&[Medium]), "{slug}: {summary}");
            assert_eq!(counts["info_count"], of(&[Low]), "{slug}: {summary}");
        }
        let trends = &summary["alert_trends"];
        assert_eq!(trends["alerts_today"], within(1), "{slug}: {trends}");
        assert_eq!(trends["alerts_this_week"], within(7), "{slug}: {trends}");
        assert_eq!(trends["alerts_this_month"], within(30), "{slug}: {trends}");
        assert_eq!(trends["trend_direction"], trend, "{slug}: {trends}");
    }
}

#[tokio::test]
async fn answers_are_repeated_for_a_while_and_say_how_old_they_are() {
    let server = Server::start().await;
    let shop = shop_with_an_incident(&server).await;
    let paths = [
        "overview",
        "alerts/summary",
        "metrics/real-time",
        "widgets/alerts",
        "widgets/metrics",
        "widgets/health",
        "widgets/performance",
        "export/json",
        "export/csv",
        "export/pdf",
    ];
    let ask =
        async |path: &str| server.call("GET", &format!("/api/v2/dashboard/{path}"), &shop.key, None).await;
    let mut first = Vec::new();
    for path in paths {
        let answer = ask(path).await;
        assert_eq!(
            (answer.header("age"), answer.header("cache-control")),
            ("0", "private, max-age=5"),
            "{path}"
        );
        first.push(answer);
    }
    server.clock.advance(Duration::from_secs(4));
    let event = json!({
        "event_type": "api_call", "title": "t", "source": {"service": "good", "endpoint": "/a", "method": "GET"},
        "metrics": {"status_code": 500, "response_time_ms": 90}
    });
    assert_eq!(server.call("POST", "/api/v1/ingestion/events", &shop.key, Some(&event)).await.status, 200);
    stored(&server, &shop, 1, |_| ()).await;
    for (path, first) in paths.iter().zip(&first) {
        let again = ask(path).await;
        assert_eq!(again.header("age"), "4", "{path}");
        assert_eq!(again.body, first.body, "{path}: {}", again.text());
    }
    server.clock.advance(Duration::from_secs(1));
    for (path, first) in paths.iter().zip(&first) {
        let fresh = ask(path).await;
        assert_eq!(fresh.header("age"), "0", "{path}");
        assert_ne!(fresh.body, first.body, "{path}");
    }
}

#[tokio::test]
async fn times_near_the_largest_number_are_shown_as_numbers() {
    let server = Server::start().await;
    let shop = server.tenant("shop").await;
    let event = json!({
        "event_type": "api_call", "title": "t", "source": {"service": "s", "endpoint": "/a", "method": "GET"},
        "metrics": {"response_time_ms": 1.7e308}
    });
    let events = json!({"events": [event, event]});
    server.call("POST", "/api/v1/ingestion/events/batch", &shop.key, Some(&events)).await;
    let overview = get(&server, &shop, "overview").await;
    for metric in overview["system_health"]["performance_metrics"].as_array().unwrap() {
        assert!(metric["current_value"].is_f64(), "{metric}");
    }
    assert_eq!(overview["performance_summary"]["avg_response_time_ms"], json!(f64::MAX));
    assert_eq!(get(&server, &shop, "metrics/real-time").await["response_times"], json!({"/a": f64::MAX}));
}

#[tokio::test]
async fn metrics_and_overview_are_measured() {
    let server = Server::start().await;
    let shop = shop_with_an_incident(&server).await;
    assert_eq!(
        get(&server, &shop, "metrics/real-time").await,
        json!({
            "event_volume": {"2026-01-15T12:00:00Z": 3}, "response_times": {"/a": 20.0},
            "error_rates": {"good": 0.0, "bad": 100.0},
            "throughput": {"2026-01-15T12:00:00Z": 0.05}, "last_updated": "2026-01-15T12:00:00Z",
        })
    );
    let overview = get(&server, &shop, "overview").await;
    let health = &overview["system_health"];
    assert_eq!(health["overall_status"], "critical");
    assert_eq!(health["services"], json!({"good": "healthy", "bad": "critical", "pulsestream": "healthy"}));
    assert_eq!(health["performance_metrics"][1]["metric_name"], "error_rate");
    assert_eq!(health["performance_metrics"][1]["trend"], "up");
    assert_eq!(overview["alert_summary"]["total_alerts"], 1);
    assert_eq!(overview["performance_summary"]["p95_response_time_ms"], 20.0);
    for widget in ["alerts", "metrics", "health", "performance"] {
        let shown = get(&server, &shop, &format!("widgets/{widget}")).await;
        assert_eq!((&shown["widget_id"], &shown["tenant_id"]), (&json!(widget), &json!(shop.id)));
        assert!(shown["data"].is_object());
    }
    let unknown = server.call("GET", "/api/v2/dashboard/widgets/none", &shop.key, None).await;
    assert_eq!((unknown.status.as_u16(), unknown.header("content-type")), (404, "application/problem+json"));
    let dashboard = server.get("/api/v2/dashboard/health").await.json();
    assert_eq!(
        dashboard,
        json!({"status": "healthy", "service": "dashboard_v2", "timestamp": "2026-01-15T12:00:00Z"})
    );
}

#[tokio::test]
async fn the_configuration_is_kept_for_each_tenant() {
    let server = Server::start().await;
    let [shop, neighbour] = [server.tenant("shop").await, server.tenant("neighbour").await];
    let default = json!({
        "config": {"refresh_interval": 30, "auto_refresh": true, "theme": "light", "layout": {"widgets": []}},
        "user_preferences": {}, "last_updated": null
    });
    assert_eq!(get(&server, &shop, "config").await, default);
    let path = "/api/v2/dashboard/config";
    let widget = json!({"id": "alerts", "position": {"x": 0, "y": 1}, "size": {"width": 4, "height": 2}});
    let mine = json!({
        "config": {"theme": "dark", "layout": {"widgets": [widget]}}, "user_preferences": {"locale": "de"}
    });
    let put = server.call("POST", path, &shop.key, Some(&mine)).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let expected = json!({
        "config": {
            "refresh_interval": 30, "auto_refresh": true, "theme": "dark", "layout": {"widgets": [widget]}
        },
        "user_preferences": {"locale": "de"}, "last_updated": "2026-01-15T12:00:00Z"
    });
    assert_eq!(put.json(), expected);
    assert_eq!(get(&server, &shop, "config").await, expected);
    assert_eq!(get(&server, &neighbour, "config").await, default);
    for (bad, pointer) in [
        (json!({"config": {"refresh_interval": 0}}), "/config/refresh_interval"),
        (json!({"config": {"theme": ""}}), "/config/theme"),
        (json!({"config": {"layout": {"widgets": vec![widget.clone(); 101]}}}), "/config/layout/widgets"),
        (json!({"config": {"layout": {"widgets": [{"id": ""}]}}}), "/config/layout/widgets/0/id"),
        (json!({"config": {"colour": "red"}}), "/config/colour"),
    ] {
        let refused = server.call("POST", path, &shop.key, Some(&bad)).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["errors"][0]["pointer"]),
            (422, &json!(pointer))
        );
    }
    let long = json!({"user_preferences": {"note": "x".repeat(64 << 10)}});
    assert_eq!(server.call("POST", path, &shop.key, Some(&long)).await.status, 413);
    assert_eq!(get(&server, &shop, "config").await, expected);
}

#[tokio::test]
async fn exports_are_files_of_their_format() {
    let server = Server::start().await;
    let shop = shop_with_an_incident(&server).await;
    let export = |format: &str| {
        let path = format!("/api/v2/dashboard/export/{format}");
        let (server, key) = (&server, shop.key.clone());
        async move { server.call("GET", &path, &key, None).await }
    };
    let file = export("json").await;
    assert_eq!(file.json()["alert_summary"]["total_alerts"], 1);
    assert_eq!(file.header("content-disposition"), "attachment; filename=\"dashboard.json\"");
    let file = export("csv").await;
    assert!(file.header("content-type").starts_with("text/csv"));
    assert!(file.text().starts_with("name,value\r\n"));
    assert!(
        file.text().contains("alert_summary.recent_alerts.0.rule_name,\"'=cmd|x\"\r\n"),
        "{}",
        file.text()
    );
    let file = export("pdf").await;
    assert_eq!(file.header("content-type"), "application/pdf");
    assert!(file.body.starts_with(b"%PDF-1.4") && file.text().contains("alert_summary.total_alerts"));
    assert_eq!(export("docx").await.status, 404);
}
