use std::time::Duration;

use super::super::passwords::Hash;
use super::*;

fn passwords(remembered: Duration) -> Arc<Passwords> {
    let hash = Hash::new(b"right").expect("hashed");
    Arc::new(Passwords {
        file: PasswordFile::parse(&format!("ann:{hash}")).expect("valid"),
        remembered: Remembered::new(remembered),
    })
}

#[tokio::test]
async fn a_password_is_remembered_only_for_its_user_and_with_its_file() {
    let verifier = Verifier::default();
    let file = passwords(Duration::from_secs(60));
    assert_eq!(verifier.verify(Arc::clone(&file), "ann", b"right", None).await, Ok(()));
    // Nothing is hashed any more.
    verifier.threads.close();
    assert_eq!(verifier.verify(Arc::clone(&file), "ann", b"right", None).await, Ok(()));
    let unavailable = Err(ReasonCode::ServerUnavailable);
    assert_eq!(
        verifier.verify(Arc::clone(&file), "ann", b"wrong", None).await,
        unavailable
    );
    assert_eq!(
        verifier.verify(Arc::clone(&file), "bob", b"right", None).await,
        unavailable
    );
    let reloaded = passwords(Duration::from_secs(60));
    assert_eq!(verifier.verify(reloaded, "ann", b"right", None).await, unavailable);
}

#[tokio::test]
async fn wrong_passwords_of_an_address_cost_less_and_less() {
    let verifier = Verifier::default();
    let origin = Some([10, 0, 0, 1].into());
    let mut last = Ok(());
    for _ in 0..30 {
        last = verifier
            .verify(passwords(Duration::ZERO), "ann", b"wrong", origin)
            .await;
        if last == Err(ReasonCode::ConnectionRateExceeded) {
            break;
        }
        assert_eq!(last, Err(ReasonCode::BadUserNameOrPassword));
    }
    assert_eq!(last, Err(ReasonCode::ConnectionRateExceeded));
    assert_eq!(
        verifier
            .verify(passwords(Duration::ZERO), "ann", b"right", Some([10, 0, 0, 2].into()))
            .await,
        Ok(())
    );
}

#[tokio::test]
async fn few_clients_wait() {
    let verifier = Arc::new(Verifier::default());
    verifier
        .threads
        .acquire_many(verifier.threads.available_permits() as u32)
        .await
        .expect("open")
        .forget();
    let (passwords, mut waiting) = (passwords(Duration::ZERO), Vec::new());
    for _ in 0..MOST_WAITING {
        let (verifier, passwords) = (Arc::clone(&verifier), Arc::clone(&passwords));
        waiting.push(tokio::spawn(async move {
            verifier.verify(passwords, "ann", b"right", None).await
        }));
    }
    while verifier.waiting.load(Ordering::Acquire) < MOST_WAITING {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        verifier.verify(passwords, "ann", b"right", None).await,
        Err(ReasonCode::ServerBusy)
    );
    for task in &waiting {
        task.abort();
    }
    while verifier.waiting.load(Ordering::Acquire) > 0 {
        tokio::task::yield_now().await;
    }
}
