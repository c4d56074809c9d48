//! The outbound guard, in front of a canary that must see nothing.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;
use pulsestream_core::ErrorKind;
use pulsestream_core::ports::notifier::{DeliveryOutcome, Notifier};
use pulsestream_core::testkit::block_on;
use pulsestream_notify::egress::{AddressClass, EgressGuard, EgressPolicy, check_url, classify};
use pulsestream_notify::{HttpConfig, WebhookNotifier};

use crate::support::http_sink::{Act, HttpSink};
use crate::support::{FakeResolver, TENANT, closed_port, notification, webhook, webhook_notifier_with};

const REFUSAL: &str = "notifications must not go to this place; an operator can open it with --allow-egress";

/// Addresses of every kind that is not public, and of this machine.
const INNER_V4: [[u8; 4]; 16] = [
    [127, 0, 0, 1],
    [127, 8, 8, 8],
    [0, 0, 0, 0],
    [10, 0, 0, 1],
    [172, 16, 0, 1],
    [172, 31, 255, 254],
    [192, 168, 1, 1],
    [100, 64, 0, 1],
    [100, 100, 100, 200],
    [169, 254, 169, 254],
    [168, 63, 129, 16],
    [192, 0, 0, 192],
    [198, 18, 0, 1],
    [161, 26, 0, 10],
    [224, 0, 0, 1],
    [255, 255, 255, 255],
];

const INNER_V6: [&str; 20] = [
    "::",
    "::1",
    "0:0:0:0:0:0:0:1",
    "fe80::1",
    "febf:ffff::1",
    "fec0::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "ff02::1",
    "ff0e::1",
    "100::1",
    "2001:db8::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "3fff::1",
    "5f00::1",
    "4000::1",
    "64:ff9b:1::7f00:1",
];

/// Writes an IPv4 address in every way that a URL can.
fn spellings_v4(octets: [u8; 4]) -> Vec<String> {
    let [a, b, c, d] = octets;
    let number = u32::from_be_bytes(octets);
    let digits = |text: &str, zero: u32| -> String {
        text.chars()
            .map(|char| char.to_digit(10).and_then(|digit| char::from_u32(zero + digit)).unwrap_or(char))
            .collect()
    };
    let plain = format!("{a}.{b}.{c}.{d}");
    vec![
        plain.clone(),
        format!("{plain}."),
        format!("{number}"),
        format!("{number:#x}"),
        format!("0{number:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("{a:#X}.{b}.0{c:o}.{d}"),
        // Full-width digits and the ideographic full stop, which IDNA maps to the plain ones.
        digits(&plain, 0xff10),
        plain.replace('.', "\u{3002}"),
        plain.chars().map(|char| format!("%{:02x}", u32::from(char))).collect(),
        plain.replace('.', "%2e"),
    ]
}

/// Writes an IPv4 address in every way that IPv6 can embed it.
fn embeddings(octets: [u8; 4]) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = octets;
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    vec![
        Ipv4Addr::from(octets).to_ipv6_mapped(),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
        Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !high, !low),
        Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0x0200, 0x5efe, high, low),
    ]
}

/// URLs that are tricks by themselves; `{port}` is the canary's.
const TRICKS: [&str; 62] = [
    "http://example.com@127.0.0.1:{port}/",
    "http://example.com:80@127.0.0.1:{port}/",
    "http://example.com%40127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "http://example.com#@127.0.0.1:{port}/",
    "http://user@example.com/",
    "http://:secret@example.com/",
    "http:/127.0.0.1:{port}/",
    "http:127.0.0.1:{port}/",
    "http:\\\\127.0.0.1:{port}\\",
    "http://127.0.0.1\\@example.com:{port}/",
    "http:///127.0.0.1:{port}/",
    "HTTP://127.0.0.1:{port}/",
    "hTtPs://127.0.0.1:{port}/",
    " http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}/ ",
    "ht\ttp://127.0.0.1:{port}/",
    "http://127.0.0.1\r\n:{port}/",
    "http://127.0.0.1%00:{port}/",
    "http://127.0.0.1%0d%0a:{port}/",
    "http://127.0.0.1:{port}\u{0}/",
    "http://127.1:{port}/",
    "http://127.0.1:{port}/",
    "http://0:{port}/",
    "http://0x0:{port}/",
    "http://00000000000:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.1:{port}/",
    "http://017700000001:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://4294967296:{port}/",
    "http://127.0.0.256:{port}/",
    "http://1.2.3.4.5:{port}/",
    "http://\u{2460}\u{2461}\u{2466}.\u{24ea}.\u{24ea}.\u{2460}:{port}/",
    "http://[::]:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]:{port}/",
    "http://[fe80::1%25lo]:{port}/",
    "http://[fe80::1%lo]:{port}/",
    "http://[::1%25lo]:{port}/",
    "http://[::1:{port}/",
    "http://::1:{port}/",
    "http://[v1.127.0.0.1]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST:{port}/",
    "http://localhost.:{port}/",
    "http://lOcAlHoSt.localdomain:{port}/",
    "http://loc%61lhost:{port}/",
    "http://\u{24db}ocalhost:{port}/",
    "http://l\u{ad}ocalhost:{port}/",
    "http://",
    "http://:{port}/",
    "http://.:{port}/",
    "//127.0.0.1:{port}/",
    "127.0.0.1:{port}",
    "",
    "http://[]:{port}/",
    "http://*:{port}/",
    "http://example..com:{port}/",
    "http://xn--a:{port}/",
];

const SCHEMES: [&str; 16] = [
    "file",
    "ftp",
    "gopher",
    "dict",
    "ldap",
    "tftp",
    "ws",
    "wss",
    "data",
    "javascript",
    "jar",
    "unix",
    "sftp",
    "telnet",
    "blob",
    "http+unix",
];

const PORTS: [u16; 24] = [
    1, 7, 19, 21, 22, 23, 25, 53, 110, 111, 135, 139, 143, 389, 445, 465, 587, 993, 2_375, 5_432, 6_379,
    9_200, 10_250, 11_211,
];

fn vectors(port: u16) -> BTreeSet<String> {
    let mut urls = BTreeSet::new();
    for octets in INNER_V4 {
        urls.extend(spellings_v4(octets).iter().map(|host| format!("http://{host}:{port}/")));
        urls.extend(embeddings(octets).iter().map(|host| format!("http://[{host}]:{port}/")));
    }
    urls.extend(INNER_V6.iter().map(|host| format!("http://[{host}]:{port}/")));
    urls.extend(TRICKS.iter().map(|url| url.replace("{port}", &port.to_string())));
    urls.extend(SCHEMES.iter().map(|scheme| format!("{scheme}://127.0.0.1:{port}/")));
    urls.extend(PORTS.iter().map(|port| format!("http://8.8.8.8:{port}/")));
    urls.insert(format!("http://127.0.0.1:{port}/{}", "x".repeat(3_000)));
    urls
}

/// The resolver of the vectors: names of this machine, and nothing else.
fn local_names() -> FakeResolver {
    let mut resolver = FakeResolver::default();
    for name in ["localhost", "localhost.", "localhost.localdomain"] {
        resolver = resolver.with(name, &[&["127.0.0.1", "::1"]]);
    }
    resolver
}

fn notifier(policy: EgressPolicy, resolver: &Arc<FakeResolver>) -> WebhookNotifier {
    webhook_notifier_with(EgressGuard::new(policy).with_resolver(resolver.clone()), HttpConfig::default())
}

fn opened(ranges: &[&str]) -> EgressPolicy {
    ranges.iter().fold(EgressPolicy::new(), |policy, range| policy.allow(range.parse().unwrap()))
}

#[tokio::test]
async fn no_spelling_of_an_inner_address_is_called() {
    let canary = HttpSink::start_on("0.0.0.0:0", []).await;
    let port = canary.address.port();
    // The same port of IPv6, where this machine has it.
    let canary_v6 = match std::net::TcpListener::bind(("::1", port)) {
        Ok(free) => {
            drop(free);
            Some(HttpSink::start_on(&format!("[::1]:{port}"), []).await)
        }
        Err(_) => None,
    };
    let resolver = Arc::new(local_names());
    let notifier = notifier(EgressPolicy::new(), &resolver);
    let vectors = vectors(port);
    assert!(vectors.len() >= 400, "{} vectors", vectors.len());
    for url in &vectors {
        let report = notifier.deliver(&notification(webhook(url))).await;
        assert_eq!(report.status_code, None, "{url}");
        assert_ne!(report.outcome, DeliveryOutcome::Delivered, "{url}");
        let error = check_url(url, &EgressPolicy::new(), &*resolver).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Forbidden | ErrorKind::Unavailable),
            "{url}: {error}"
        );
    }
    assert_eq!(canary.counts().connections, 0);
    assert!(canary_v6.is_none_or(|canary| canary.counts().connections == 0));

    // The canary is alive: what an operator opens is reached, in the very same spellings.
    let open = self::notifier(opened(&["127.0.0.1/32"]), &resolver);
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://2130706433:{port}/"),
    ] {
        let report = open.deliver(&notification(webhook(&url))).await;
        assert_eq!(report.outcome, DeliveryOutcome::Delivered, "{url}");
    }
    assert_eq!(canary.counts().connections, 3);
}

#[tokio::test]
async fn every_address_of_an_answer_must_be_allowed() {
    let canary = HttpSink::start([]).await;
    let url = format!("http://shop.example:{}/", canary.address.port());
    let mut answers: Vec<Vec<String>> = Vec::new();
    for octets in INNER_V4 {
        let address = Ipv4Addr::from(octets).to_string();
        answers.push(vec![address.clone()]);
        answers.push(vec!["93.184.216.34".into(), address.clone()]);
        answers.push(vec![address, "2606:4700::1111".into()]);
        answers.extend(embeddings(octets).iter().map(|address| vec![address.to_string()]));
    }
    answers.extend(INNER_V6.iter().map(|address| vec!["93.184.216.34".into(), (*address).into()]));
    assert!(answers.len() >= 200, "{} answers", answers.len());
    let answers: Vec<Vec<&str>> =
        answers.iter().map(|answer| answer.iter().map(String::as_str).collect()).collect();
    let answers: Vec<&[&str]> = answers.iter().map(Vec::as_slice).collect();
    let resolver = Arc::new(FakeResolver::default().with("shop.example", &answers));
    let notifier = notifier(EgressPolicy::new(), &resolver);
    for (index, answer) in answers.iter().enumerate() {
        let report = notifier.deliver(&notification(webhook(&url))).await;
        assert_eq!(report.outcome.error().map(|error| error.as_str()), Some(REFUSAL), "{answer:?}");
        assert_eq!(resolver.look_ups(), index + 1, "{answer:?}");
    }
    assert_eq!(canary.counts().connections, 0);
}

#[tokio::test]
async fn a_name_that_changes_its_mind_gains_nothing() {
    let canary = HttpSink::start([]).await;
    let port = canary.address.port();
    let allowed = HttpSink::start_on(&format!("127.0.0.2:{port}"), []).await;
    // The first answer is allowed, all later ones lead to the canary.
    let resolver = FakeResolver::default().with("flip.example", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let resolver = Arc::new(resolver);
    let notifier = notifier(opened(&["127.0.0.2/32"]), &resolver);
    let message = notification(webhook(&format!("http://flip.example:{port}/")));
    assert_eq!(notifier.deliver(&message).await.outcome, DeliveryOutcome::Delivered);
    assert_eq!(resolver.look_ups(), 1, "the connection uses the answer that was checked");
    assert_eq!(allowed.counts().connections, 1);
    let report = notifier.deliver(&message).await;
    assert!(matches!(report.outcome, DeliveryOutcome::RetryAfter { after: None, .. }), "{report:?}");
    assert_eq!((resolver.look_ups(), allowed.counts().connections, canary.counts().connections), (2, 1, 0));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let canary = HttpSink::start([]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\nrefresh: 0; url={}\r\n", canary.url(), canary.url());
        let sink = HttpSink::start([Act::answer(status, &location, "")]).await;
        let notifier = notifier(opened(&["127.0.0.1/32"]), &Arc::default());
        let report = notifier.deliver(&notification(webhook(&sink.url()))).await;
        assert_eq!(report.status_code, Some(status));
    }
    assert_eq!(canary.counts().connections, 0);
}

#[tokio::test]
async fn a_refusal_does_not_tell_who_listens() {
    let listening = HttpSink::start([]).await;
    let (_reserved, closed) = closed_port();
    let notifier = notifier(EgressPolicy::new(), &Arc::default());
    let of_listening = notifier.deliver(&notification(webhook(&listening.url()))).await.outcome;
    let of_closed = notifier.deliver(&notification(webhook(&format!("http://{closed}/hook")))).await.outcome;
    assert_eq!(of_listening, of_closed);
    assert_eq!(of_listening, DeliveryOutcome::Permanent { error: REFUSAL.into() });
}

#[tokio::test]
async fn a_policy_of_one_tenant_opens_nothing_for_another() {
    let sink = HttpSink::start([]).await;
    let resolver = FakeResolver::default().with("inner.example", &[&["127.0.0.1"]]);
    let guard = EgressGuard::new(EgressPolicy::new())
        .with_tenant_policy(TENANT, opened(&["127.0.0.0/8"]))
        .with_resolver(Arc::new(resolver));
    let notifier = webhook_notifier_with(guard, HttpConfig::default());
    for url in [sink.url(), format!("http://inner.example:{}/", sink.address.port())] {
        let mut message = notification(webhook(&url));
        notifier.validate(&message.channel).unwrap();
        assert_eq!(notifier.deliver(&message).await.outcome, DeliveryOutcome::Delivered, "{url}");
        message.tenant = pulsestream_core::id::TenantId::from_u128(8);
        let outcome = notifier.deliver(&message).await.outcome;
        assert_eq!(outcome.error().map(|error| error.as_str()), Some(REFUSAL), "{url}");
    }
    assert_eq!(sink.counts().connections, 2);
}

/// A child of this test has proxies in its environment; the request must not go to them.
#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    const CHILD: &str = "PULSESTREAM_TEST_PROXY_CHILD";
    if let Ok(url) = std::env::var(CHILD) {
        let notifier = notifier(opened(&["127.0.0.1/32"]), &Arc::default());
        let report = notifier.deliver(&notification(webhook(&url))).await;
        assert_eq!(report.outcome, DeliveryOutcome::Delivered);
        return;
    }
    let (sink, proxy) = (HttpSink::start([]).await, HttpSink::start([]).await);
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child.args(["guard::proxies_of_the_environment_are_not_used", "--exact"]).env(CHILD, sink.url());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, format!("http://{}", proxy.address));
    }
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((sink.counts().requests, proxy.counts().connections), (1, 0));
}

#[tokio::test]
async fn public_places_pass() {
    let resolver = FakeResolver::default()
        .with("hooks.example", &[&["93.184.216.34", "2606:4700::1111"]])
        .with("xn--bcher-kva.example", &[&["93.184.216.34"]]);
    for (url, host, port) in [
        ("https://hooks.example/a?b=c", "hooks.example", 443),
        ("http://HOOKS.example/", "hooks.example", 80),
        ("https://b\u{fc}cher.example:8443/", "xn--bcher-kva.example", 8_443),
        ("https://93.184.216.34/", "93.184.216.34", 443),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
    ] {
        let target = check_url(url, &EgressPolicy::new(), &resolver).await.unwrap();
        assert_eq!(target.host, host, "{url}");
        assert!(target.addresses.iter().all(|address| address.port() == port), "{url}");
    }
}

/// Pieces of which URLs are made, and with which parsers are confused.
const PIECES: [&str; 34] = [
    "http://",
    "https://",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "#",
    "?",
    "[",
    "]",
    "%",
    "%25",
    ".",
    "..",
    "0x",
    "0",
    "7f",
    "127",
    "10",
    "1",
    "::",
    "::ffff:",
    "fe80",
    "2002:",
    "64:ff9b::",
    "localhost",
    "shop.example",
    "\u{3002}",
    "\u{ff11}",
    " ",
    "\t",
    "80",
    "x",
];

proptest! {
    /// Whatever is let through leads to public addresses at allowed ports only.
    #[test]
    fn what_passes_is_public(
        scheme in 0_usize..3,
        pieces in prop::collection::vec(0..PIECES.len(), 0..9),
        resolved in any::<[u8; 4]>(),
    ) {
        let mut url = ["http://", "https://", ""][scheme].to_owned();
        pieces.iter().for_each(|index| url.push_str(PIECES[*index]));
        let policy = EgressPolicy::new();
        let answer = Ipv4Addr::from(resolved).to_string();
        let resolver = FakeResolver::default().with("shop.example", &[&[&answer]]);
        if let Ok(target) = block_on(check_url(&url, &policy, &resolver)) {
            prop_assert!(matches!(target.url.scheme(), "http" | "https"));
            prop_assert!(target.url.username().is_empty() && target.url.password().is_none());
            for address in target.addresses {
                prop_assert_eq!(classify(address.ip()), AddressClass::Public);
                prop_assert!(policy.allows_port(address.port()));
            }
        }
    }

    /// An address that embeds an IPv4 address is never public, whatever is embedded.
    #[test]
    fn embedded_addresses_are_never_public(octets in any::<[u8; 4]>()) {
        for address in embeddings(octets) {
            prop_assert_ne!(classify(address.into()), AddressClass::Public);
        }
    }
}
