use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use images::{Config, Reference};

use crate::setup::{Lines, Place, Registry};

#[tokio::test]
async fn what_a_registry_has_is_not_sent_again_and_the_base_is_mounted() {
    let Some(registry) = Registry::start("") else {
        return;
    };
    let place = Place::new();
    let images = place.images(Config {
        registry: Some(format!("{}/team", registry.host)),
        ..Config::default()
    });
    let to = images.place("Iris model", 1).unwrap();
    assert_eq!(
        to.to_string(),
        format!("{}/team/iris-model:1", registry.host)
    );
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    let pushed = images.push(&image, &to, &|_| ()).await.unwrap();
    assert_eq!(
        pushed.reference,
        format!("{}/team/iris-model@{}", registry.host, image.digest)
    );
    assert!(pushed.sent_bytes > 6 << 20);
    let again = images.push(&image, &to, &|_| ()).await.unwrap();
    assert_eq!(again.sent_bytes, 0);

    // A new version: only its model layer, which has another content, and its configuration.
    std::fs::write(place.path("model/MLmodel"), "flavors: {other: {}}").unwrap();
    let image = images
        .build(&place.purpose(2), None, &|_| ())
        .await
        .unwrap();
    let to = images.place("Iris model", 2).unwrap();
    let second = images.push(&image, &to, &|_| ()).await.unwrap();
    assert!(second.sent_bytes < 10_000, "{}", second.sent_bytes);

    // What was pushed is the base of another repository's image.
    let lines = Lines::default();
    let image = images
        .build(&place.purpose(1), Some(&pushed.reference), &|_| ())
        .await
        .unwrap();
    let to = Reference::parse(&format!("{}/other:latest", registry.host)).unwrap();
    let mounted = images
        .push(&image, &to, &|line| lines.push(line))
        .await
        .unwrap();
    assert!(lines.all().contains("mounted"), "{}", lines.all());
    assert!(mounted.sent_bytes < 10_000, "{}", mounted.sent_bytes);
}

#[tokio::test]
async fn a_base_of_another_registry_is_copied() {
    let (Some(one), Some(other)) = (Registry::start(""), Registry::start("")) else {
        return;
    };
    let place = Place::new();
    let images = place.images(Config::default());
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    let base = Reference::parse(&format!("{}/base:1", one.host)).unwrap();
    images.push(&image, &base, &|_| ()).await.unwrap();

    std::fs::remove_dir_all(place.path("data")).unwrap();
    let images = place.images(Config::default());
    let image = images
        .build(&place.purpose(1), Some(&base.to_string()), &|_| ())
        .await
        .unwrap();
    let to = Reference::parse(&format!("{}/copy:1", other.host)).unwrap();
    let pushed = images.push(&image, &to, &|_| ()).await.unwrap();
    assert!(pushed.sent_bytes > 6 << 20);
    let purpose = place.purpose(1);
    let copy = images.build(&purpose, Some(&pushed.reference), &|_| ());
    copy.await.unwrap();
}

/// The password of `me` is `opensesame`.
const LOGINS: &str = "me:$2y$05$IQyY06d1PC9/xBOcPJhE1eO/kIPayHH.w80SyCv05S7GjhEolp1mq\n";

#[tokio::test]
async fn a_registry_with_passwords_is_told_the_right_one() {
    let place = Place::new();
    let logins = place.path("htpasswd");
    std::fs::write(&logins, LOGINS).unwrap();
    let auth = format!(
        "auth:\n  htpasswd: {{realm: r, path: {}}}\n",
        logins.display()
    );
    let Some(registry) = Registry::start(&auth) else {
        return;
    };
    let with = |password: Option<&str>| Config {
        registry: Some(registry.host.clone()),
        username: password.map(|_| "me".to_owned()),
        password: password.map(|password| password.to_owned().into()),
        ..Config::default()
    };
    for (password, said) in [
        (Some("opensesame"), Ok(())),
        (Some("wrong"), Err("refuses to look for a layer")),
        (None, Err("it asks for a name and a password")),
    ] {
        let images = place.images(with(password));
        let image = images
            .build(&place.purpose(1), None, &|_| ())
            .await
            .unwrap();
        let to = images.place("iris", 1).unwrap();
        let pushed = images.push(&image, &to, &|_| ()).await;
        match (pushed, said) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(said)) => {
                assert!(error.to_string().contains(said), "{error}");
                assert!(error.help().unwrap().contains("images.password_file"));
            }
            (pushed, _) => panic!("{password:?}: {pushed:?}"),
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_the_connection_broke() {
    let Some(registry) = Registry::start("") else {
        return;
    };
    let place = Place::new();
    let images = place.images(Config::default());
    let image = images
        .build(&place.purpose(1), None, &|_| ())
        .await
        .unwrap();
    let proxy = Breaking::before(&registry.host, 2 << 20);
    let to = Reference::parse(&format!("{}/iris:1", proxy.host)).unwrap();
    let pushed = images.push(&image, &to, &|_| ()).await.unwrap();
    assert!(proxy.left.load(Ordering::SeqCst) < 0, "nothing was broken");
    // What lies there is whole: it can be built upon.
    let reference = pushed.reference.replace(&proxy.host, &registry.host);
    let place = Place::new();
    let images = place.images(Config::default());
    let image = images
        .build(&place.purpose(1), Some(&reference), &|_| ())
        .await
        .unwrap();
    let folder = place.path("out");
    images.write_folder(&image, "it", &folder).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_named() {
    let place = Place::new();
    let images = place.images(Config::default());
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let base = format!("{closed}/base:1");
    let error = images
        .build(&place.purpose(1), Some(&base), &|_| ())
        .await
        .err()
        .unwrap();
    assert!(error.is_registry());
    let said = error.to_string();
    assert!(
        said.contains(&format!(
            "{closed} does not answer when asked to read the image"
        )),
        "{said}"
    );
}

#[tokio::test]
async fn a_manifest_without_end_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("{}/base:1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]);
            let _ = client.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            // Until the other side has enough.
            while client.write_all(&[b' '; 1 << 16]).is_ok() {}
        }
    });
    let place = Place::new();
    let images = place.images(Config::default());
    let built = images.build(&place.purpose(1), Some(&base), &|_| ()).await;
    let said = built.err().unwrap().to_string();
    assert!(said.contains("larger than manifests are"), "{said}");
}

/// A way to a registry that breaks once, after so many bytes.
struct Breaking {
    host: String,
    left: Arc<AtomicI64>,
}

impl Breaking {
    fn before(registry: &str, bytes: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let left = Arc::new(AtomicI64::new(bytes));
        let (to, count) = (registry.to_owned(), left.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(&to).unwrap());
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || pump(back.0, back.1, &AtomicI64::new(-1)));
                let count = count.clone();
                std::thread::spawn(move || pump(client, server, &count));
            }
        });
        Self { host, left }
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, left: &AtomicI64) {
    let mut part = vec![0; 1 << 14];
    while let Ok(length @ 1..) = from.read(&mut part) {
        let before = left.fetch_sub(length as i64, Ordering::SeqCst);
        let breaks = before >= 0 && before < length as i64;
        if breaks || to.write_all(&part[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
