//! `policy test` and `policy record`: policies with cases, decided by the webhook's own code over recorded answers.

mod app;
mod case;
mod expect;
mod folder;
mod junit;
mod recorded;
mod recorder;
mod replay;
mod report;
mod update;

use std::{fs, sync::Arc};

use zastava_verify::{
    image::ImageReference,
    keychain::Keychain,
    registry::{Registry, transport::Transport},
};

pub use self::{app::AnswerError, folder::FolderError, recorded::RecordedError, update::UpdateError};
use self::{
    app::{Answerer, Decided},
    case::Case,
    folder::Folder,
    recorded::{Answers, Recorded},
    recorder::Recorder,
    replay::Replay,
    report::{Outcome, Report},
    update::Update,
};
use crate::{
    arguments::{RecordArguments, TestArguments},
    docker_config,
    ending::Ending,
    failure::Failure,
    output::{self, OutputError},
    policies::Written,
    registries,
};

/// Decides every case over what was recorded, and holds the decisions against what is expected.
pub async fn test(arguments: &TestArguments, out: &mut Vec<u8>) -> Result<Ending, Failure> {
    let folder = Folder::read(&arguments.dir)?;
    let replay = Arc::new(Replay::of(Recorded::load(&folder.recorded())?));
    let registry = registries::registry(&crate::arguments::RegistryArguments::default(), Some(replay.clone()))?;
    let (mut outcomes, mut updates) = (Vec::with_capacity(folder.cases.len()), Vec::new());
    for case in &folder.cases {
        let decided = decide(&folder, case, &registry, Keychain::default(), arguments.timeout).await?;
        let missing = replay.take_missing();
        let differences = if arguments.update && missing.is_empty() {
            updates.extend(Update::of(case, &decided)?);
            Vec::new()
        } else {
            case.expect.differences(&decided)
        };
        outcomes.push(Outcome::of(case, decided, differences, missing));
    }
    // All or none: a folder of which half is updated looks like one that is.
    updates.iter().try_for_each(Update::write)?;
    let report = Report::of(outcomes);
    if let Some(file) = &arguments.junit {
        fs::write(file, junit::text(&report)).map_err(|source| Failure::Junit { file: file.clone(), source })?;
    }
    output::print(out, arguments.output, &report, |out: &mut Vec<u8>| report.table(out))?;
    Ok(report.ending())
}

/// Decides every case over the registries themselves, and writes what they answered.
pub async fn record(arguments: &RecordArguments, out: &mut Vec<u8>) -> Result<Ending, Failure> {
    let folder = Folder::read(&arguments.dir)?;
    let before = match recorded::answers(&folder.recorded()) {
        // It is to be written anyway.
        Err(RecordedError::Malformed { file, why }) => {
            report::recorded_anew(out, &file, &why).map_err(OutputError::from)?;
            Answers::default()
        }
        answers => answers?,
    };
    let base_images = folder.policies.iter().flat_map(Written::base_images);
    let images: Vec<ImageReference> = folder.cases.iter().flat_map(Case::images).chain(base_images).collect();
    let keychain = docker_config::keychain(&arguments.registries, &images).await?;
    let recorder = Arc::new(Recorder::default());
    let registry = registries::registry(&arguments.registries, Some(recorder.clone() as Arc<dyn Transport>))?;
    for case in &folder.cases {
        decide(&folder, case, &registry, keychain.clone(), arguments.timeout).await?;
    }
    let (answers, troubles) = recorder.taken(&before);
    answers.save(&folder.recorded())?;
    report::recorded(out, &folder.recorded(), &answers, &troubles).map_err(OutputError::from)?;
    Ok(if troubles.is_empty() { Ending::Satisfied } else { Ending::Unknown })
}

async fn decide(
    folder: &Folder,
    case: &Case,
    registry: &Registry,
    keychain: Keychain,
    timeout: std::time::Duration,
) -> Result<Decided, AnswerError> {
    // A verifier for each case: what one case found out must not hide from the next that an answer is missing.
    let answerer = Answerer::new(folder, registry.clone(), keychain, timeout);
    answerer.decide(case).await
}
