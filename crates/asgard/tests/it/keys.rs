//! Keys over HTTP.

use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};
use web::testing::Answer;

use crate::site::{Site, request};

async fn create(site: &Site, body: Value) -> Answer {
    let sent = request("POST", "/mlops/keys")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()));
    site.send_locally(sent.unwrap()).await
}

async fn with_key(site: &Site, key: &str, method: &str, path: &str) -> StatusCode {
    let sent = request(method, path).header("authorization", format!("Bearer {key}"));
    site.send(sent.body(Body::empty()).unwrap()).await.status
}

#[tokio::test]
async fn a_key_opens_what_its_role_may_until_it_is_revoked() {
    let site = Site::new().await;
    let answer = create(&site, json!({"name": "ci", "role": "viewer"})).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let key = answer.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(
        with_key(&site, &key, "GET", "/mlops/status").await,
        StatusCode::OK
    );
    assert_eq!(
        with_key(&site, &key, "GET", "/mlops/keys").await,
        StatusCode::FORBIDDEN
    );
    let wrong = with_key(&site, &format!("{key}0"), "GET", "/mlops/status").await;
    assert_eq!(wrong, StatusCode::UNAUTHORIZED);

    let revoke = request("DELETE", "/mlops/keys/ci").body(Body::empty());
    assert_eq!(
        site.send_locally(revoke.unwrap()).await.status,
        StatusCode::OK
    );
    let after = with_key(&site, &key, "GET", "/mlops/status").await;
    assert_eq!(after, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_secret_is_shown_once_and_never_stored() {
    let site = Site::new().await;
    let answer = create(&site, json!({"name": "once", "role": "admin"}))
        .await
        .json();
    let key = answer["key"].as_str().unwrap();
    let secret = key.splitn(3, '_').nth(2).unwrap();
    let list = request("GET", "/mlops/keys").body(Body::empty()).unwrap();
    let list = site.send_locally(list).await.text();
    assert!(list.contains("once") && !list.contains(secret));
}

#[tokio::test]
async fn wrong_keys_are_refused_with_the_field_that_is_wrong() {
    let site = Site::new().await;
    let roles = create(&site, json!({"name": "a", "role": "king"})).await;
    assert_eq!(roles.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(roles.json()["detail"][0]["loc"], json!(["body", "role"]));
    let name = create(&site, json!({"name": "a b", "role": "viewer"})).await;
    assert_eq!(name.status, StatusCode::UNPROCESSABLE_ENTITY);
    create(&site, json!({"name": "a", "role": "viewer"})).await;
    let taken = create(&site, json!({"name": "a", "role": "viewer"})).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn basic_authentication_takes_the_key_as_password() {
    use base64::Engine as _;
    let site = Site::new().await;
    let answer = create(&site, json!({"name": "mlflow", "role": "viewer"}))
        .await
        .json();
    let login = format!("anyone:{}", answer["key"].as_str().unwrap());
    let login = base64::engine::general_purpose::STANDARD.encode(login);
    let sent = request("GET", "/mlops/status").header("authorization", format!("Basic {login}"));
    let answer = site.send(sent.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}
