//! Nothing secret is printed or stored, and weak settings are refused.

use super::*;
use crate::auth::{ChangePassword, ConfirmReset, Keyring, PasswordSettings};

#[tokio::test]
async fn no_secret_is_in_the_store_or_in_debug_output() {
    let world = World::new().await;
    let shop = world.shop("shop").await;
    let (_, tokens, principal) = world.user(&shop, "ada", Role::Admin).await;
    let key = world.key(&shop.owner, Scopes::ADMIN).await;
    let rotated =
        world.service.rotate_api_key(&shop.owner, key.info.id, seconds(9), &Origin::default()).await.unwrap();
    let refreshed = world.refresh(&tokens).await.unwrap();
    let ticket = world.service.issue_ticket(&principal).await.unwrap();
    world.service.request_password_reset("ada@shop.example", "shop", &Origin::default()).await.unwrap();
    let mail = world.mailbox.take().pop().unwrap();
    let login = sign_in("shop", "ada@shop.example", PASSWORD);
    let change = ChangePassword {
        current_password: PASSWORD.into(),
        new_password: OTHER_PASSWORD.into(),
        confirm_new_password: OTHER_PASSWORD.into(),
    };
    let confirm = ConfirmReset {
        token: mail.token.clone(),
        new_password: OTHER_PASSWORD.into(),
        confirm_new_password: OTHER_PASSWORD.into(),
    };
    let credentials = Credentials {
        credential: Credential::Bearer(tokens.access_token.clone()),
        origin: Origin::default(),
    };
    let session = world.service.0.store.session(principal.tenant, principal.session.unwrap()).await.unwrap();
    let keyring = world.service.0.store.keyring().await.unwrap();
    let errors = [
        world.login("shop", "ada@shop.example", OTHER_PASSWORD).await.unwrap_err(),
        authenticate(&world.service, Credential::ApiKey(format!("{}x", key.key.expose()).into()))
            .await
            .unwrap_err(),
        world.service.refresh(&key.key, &Origin::default()).await.unwrap_err(),
    ];
    let printed = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:#?}",
        shop.registered,
        tokens,
        key,
        rotated,
        refreshed,
        ticket,
        mail,
        login,
        change,
        confirm,
        credentials,
        session,
        keyring,
        world,
        new_user("a@b.c", Role::Viewer),
        errors
    );
    let stored = world.dump().await;
    let secret_part = |key: &Secret| key.expose()[31..].to_owned();
    let secrets = [
        PASSWORD.to_owned(),
        OTHER_PASSWORD.to_owned(),
        shop.registered.temporary_password.expose().to_owned(),
        secret_part(&shop.registered.api_key),
        secret_part(&key.key),
        secret_part(&rotated.key),
        tokens.access_token.expose().to_owned(),
        tokens.refresh_token.expose()[50..].to_owned(),
        refreshed.refresh_token.expose()[50..].to_owned(),
        mail.token.expose()[50..].to_owned(),
        ticket.ticket.expose().to_owned(),
    ];
    for secret in &secrets {
        assert!(!printed.contains(secret.as_str()), "{secret} is printed");
        assert!(!stored.contains(secret.as_str()), "{secret} is stored");
    }
    assert!(!printed.contains("$argon2id$"), "not even the hash is printed");
    assert!(stored.contains("$argon2id$"), "the dump is a real one");
}

#[tokio::test]
async fn a_weak_hash_is_refused_outside_tests() {
    let open = |memory_kib, iterations| async move {
        let (env, _) = Env::manual(Timestamp::EPOCH, 1);
        let store = Arc::new(KeyValueIdentityStore::new(Arc::new(MemoryKeyValue::new()), false));
        let password = PasswordSettings { memory_kib, iterations, ..PasswordSettings::default() };
        let settings = AuthSettings { password, ..AuthSettings::default() };
        AuthService::builder(env, store).with_settings(settings).open().await
    };
    for (memory_kib, iterations) in [(8, 1), (19_455, 2), (19_456, 1), (12_287, 3), (0, 0)] {
        assert_eq!(
            open(memory_kib, iterations).await.unwrap_err().kind(),
            ErrorKind::Invalid,
            "{memory_kib}"
        );
    }
    open(19_456, 2).await.unwrap();
}

#[test]
fn settings_have_limits_and_say_which() {
    assert!(AuthSettings::default().validate().is_ok());
    let settings = AuthSettings {
        leeway: seconds(6),
        access_ttl: seconds(59),
        shared_cache_ttl: seconds(11),
        signing_key_grace: seconds(1),
        password: PasswordSettings { min_chars: 7, ..PasswordSettings::default() },
        ..AuthSettings::default()
    };
    let error = settings.validate().unwrap_err();
    let pointers: Vec<_> = error.fields().iter().map(|field| field.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/access_ttl", "/leeway", "/signing_key_grace", "/shared_cache_ttl", "/password/min_chars"]
    );
    let text = serde_json::to_string(&AuthSettings::default()).unwrap();
    assert_eq!(serde_json::from_str::<AuthSettings>(&text).unwrap(), AuthSettings::default());
    assert!(serde_json::from_str::<AuthSettings>(r#"{"acces_ttl":"1h"}"#).is_err());
}

#[tokio::test]
async fn given_secrets_are_used_and_not_stored() {
    let (env, _) = Env::manual(Timestamp::from_seconds(1_800_000_000), 1);
    let key_value = Arc::new(MemoryKeyValue::new());
    let (old, new, pepper) = (
        Secret::from("q7Zt0mVb3xK9wPdL2sYhR8uNfJ6cGaE4TiXoWkQz1nM="),
        Secret::from("Zb5nW1cXq9Lr7KfTg3YdV0aJ8hEoPs6uRiM2wQyDk4C="),
        Secret::from("m3QyV8kZt1RbX6wPd9LcG2sNfH7jUaE5ToYiWrKz0xB="),
    );
    let service = |secrets: Vec<Secret>| {
        let store = Arc::new(KeyValueIdentityStore::new(key_value.clone(), true));
        let keyring = Keyring::from_secrets(&secrets, &pepper).unwrap();
        let builder = AuthService::builder(env.clone(), store).with_keyring(keyring).with_cheap_hashing();
        async move { builder.open().await.unwrap() }
    };
    let first = service(vec![old.clone()]).await;
    let tenant = first.register_tenant(&registration("shop"), &Origin::default()).await.unwrap();
    let request = sign_in("shop", &tenant.owner.email, tenant.temporary_password.expose());
    let tokens = first.login(&request, &Origin::default()).await.unwrap();
    let bearer = || Credential::Bearer(tokens.access_token.clone());
    let rotated = service(vec![new.clone(), old]).await;
    assert!(authenticate(&rotated, bearer()).await.is_ok());
    assert!(authenticate(&rotated, Credential::ApiKey(tenant.api_key.clone())).await.is_ok());
    assert!(authenticate(&service(vec![new]).await, bearer()).await.is_err());
    assert_eq!(
        first.rotate_signing_key(KeyRotation::Graceful).await.unwrap_err().kind(),
        ErrorKind::Unsupported
    );
    assert!(first.0.store.keyring().await.unwrap().is_none());
    assert!(
        first
            .request_password_reset("a@b.c", "shop", &Origin::default())
            .await
            .is_err_and(|it| it.kind() == ErrorKind::Unsupported)
    );
}
