//! Which failures say that nothing was sent, and which that nobody knows (D5).

use super::*;

fn not_sent(outcome: &Result<HttpResponse, HttpError>) -> bool {
    matches!(outcome, Err(HttpError::NotSent { .. }))
}

fn unknown(outcome: &Result<HttpResponse, HttpError>) -> bool {
    matches!(outcome, Err(HttpError::Unknown { .. }))
}

/// Sends a POST to a server that does this with its connection.
async fn against<H, F>(handle: H) -> Result<HttpResponse, HttpError>
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (address, _) = serve(handle).await;
    client(address).send(post(format!("http://{address}/token"), "refresh_token=old")).await
}

async fn against_answer(answer: impl Into<Vec<u8>>) -> Result<HttpResponse, HttpError> {
    let (address, _) = answering(answer).await;
    client(address).send(post(format!("http://{address}/token"), "refresh_token=old")).await
}

#[tokio::test]
async fn d5_a_refused_connection_was_not_sent() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let outcome = client(address).send(get(format!("http://{address}/"))).await;
    assert!(not_sent(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_a_name_without_an_address_was_not_sent() {
    let outcome = resolving("", &[]).send(get("https://nowhere.example/")).await;
    assert!(not_sent(&outcome), "{outcome:?}");
    let real = GuardedClient::new(AllowList::default(), Vec::new());
    let outcome = real.send(get("https://name.invalid/")).await;
    assert!(not_sent(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_a_resolver_that_hangs_was_not_sent() {
    struct Hanging;

    #[async_trait]
    impl Resolve for Hanging {
        async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
            std::future::pending().await
        }
    }

    let client = GuardedClient::with(AllowList::default(), Vec::new(), Box::new(Hanging), short());
    let outcome = client.send(get("https://slow.example/")).await;
    assert!(not_sent(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_the_next_address_is_tried_when_one_refuses() {
    let (address, _) = answering(OK).await;
    // Nobody listens on this address of the same port; connecting sends nothing of the request.
    let refusing = format!("127.0.0.9:{}", address.port());
    let client = resolving(&format!("two.example:{}", address.port()), &[&refusing, &address.to_string()]);
    let response = client.send(get(format!("http://two.example:{}/", address.port()))).await.unwrap();
    assert_eq!(response.status, 200);
}

#[tokio::test]
async fn d5_a_reset_after_the_request_is_unknown() {
    let outcome = against(|mut stream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    assert!(unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_a_close_without_an_answer_is_unknown() {
    let outcome = against(|mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    assert!(unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_an_answer_that_does_not_come_is_unknown() {
    let started = Instant::now();
    let outcome = against(|mut stream| async move {
        read_request(&mut stream).await;
        sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert!(unknown(&outcome), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn d5_a_server_that_reads_nothing_is_unknown() {
    // The kernel took the bytes: whether the server will is not known.
    let outcome = against(|stream| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    assert!(unknown(&outcome), "{outcome:?}");
}

#[tokio::test]
async fn d5_headers_or_a_body_that_drip_beyond_the_time_are_unknown() {
    for first in ["HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"] {
        let started = Instant::now();
        let outcome = against(move |mut stream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(first.as_bytes()).await;
            while stream.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(unknown(&outcome), "{outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "each byte must not start the time anew");
    }
}

#[tokio::test]
async fn d5_a_body_beyond_the_limit_is_unknown_and_one_at_it_is_whole() {
    let sized =
        |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length));
    let chunked = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(length)
        )
    };
    let until_close = |length: usize| format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(length));
    for answer in [sized(1000), chunked(1000), until_close(1000)] {
        assert_eq!(against_answer(answer).await.unwrap().body.len(), 1000);
    }
    for answer in [sized(1001), chunked(1001), until_close(1001)] {
        let outcome = against_answer(answer).await;
        assert!(unknown(&outcome), "{outcome:?}");
    }
}

#[tokio::test]
async fn the_limits_of_the_product_are_ten_seconds_and_one_mebibyte() {
    assert_eq!((LIMITS.total, LIMITS.body), (Duration::from_secs(10), 1 << 20));
    let body = vec![b'x'; 1 << 20];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let (address, _) = answering([head.into_bytes(), body].concat()).await;
    let client = GuardedClient::new(AllowList::parse(&address.to_string()).unwrap(), Vec::new());
    assert_eq!(client.send(get(format!("http://{address}/"))).await.unwrap().body.len(), 1 << 20);
}

#[tokio::test]
async fn d5_an_answer_that_is_cut_off_or_no_http_is_unknown() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x-h: v\r\n".repeat(MAX_HEADERS + 1));
    let large = format!("HTTP/1.1 200 OK\r\nx-h: {}\r\n\r\n", "v".repeat(MAX_HEAD_BYTES));
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nhi",
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\0\0\0",
        &many,
        &large,
    ] {
        let outcome = against_answer(answer).await;
        assert!(unknown(&outcome), "{:?}: {outcome:?}", &answer[..answer.len().min(60)]);
    }
}

#[tokio::test]
async fn an_error_says_neither_path_nor_query_nor_what_was_sent_or_received() {
    let (address, _) = answering("HTTP/1.1 200 secret-reason\r\nsecret-header\r\n\r\nsecret-body").await;
    let url = format!("http://{address}/secret-path?secret=query");
    let error = client(address).send(post(url, "secret-request")).await.unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
    assert!(error.contains(&address.to_string()), "{error}");
}

/// The claim behind everything that retries: a server that drops connections at any moment never sees a byte of a
/// request that is reported as not sent.
#[tokio::test]
async fn d5_not_sent_means_that_the_server_saw_nothing() {
    for round in 0..100_u64 {
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&seen);
        let (address, _) = serve(move |mut stream| {
            let counter = Arc::clone(&counter);
            async move {
                sleep(Duration::from_micros(round * 7)).await;
                let mut bytes = [0; 64];
                if round % 3 != 0 {
                    counter.fetch_add(stream.try_read(&mut bytes).unwrap_or(0), Ordering::SeqCst);
                }
                if round % 2 == 0 {
                    let _ = stream.set_zero_linger();
                } else {
                    let _ = stream.shutdown().await;
                    counter.fetch_add(stream.read(&mut bytes).await.unwrap_or(0), Ordering::SeqCst);
                }
            }
        })
        .await;
        let outcome = client(address).send(post(format!("http://{address}/"), "refresh_token=old")).await;
        sleep(Duration::from_millis(2)).await;
        assert!(not_sent(&outcome) || unknown(&outcome), "{outcome:?}");
        if not_sent(&outcome) {
            assert_eq!(seen.load(Ordering::SeqCst), 0, "round {round}");
        }
    }
}
