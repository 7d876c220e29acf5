//! The names under which the step is started.

/// Which of the five steps this is. Each is a name of the program's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// `kaniko-docker`: any registry, with a user and a password.
    Docker,
    /// `kaniko-ecr`: Amazon's registries.
    Ecr,
    /// `kaniko-gcr`: Google's older registry.
    Gcr,
    /// `kaniko-gar`: Google's Artifact Registry.
    Gar,
    /// `kaniko-acr`: Azure's registries.
    Acr,
}

impl Name {
    /// Every name there is.
    pub const ALL: [Self; 5] = [Self::Docker, Self::Ecr, Self::Gcr, Self::Gar, Self::Acr];

    /// The step that a file of this name is.
    #[must_use]
    pub fn of_file(file: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.file() == file)
    }

    /// The name of its file.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Docker => "kaniko-docker",
            Self::Ecr => "kaniko-ecr",
            Self::Gcr => "kaniko-gcr",
            Self::Gar => "kaniko-gar",
            Self::Acr => "kaniko-acr",
        }
    }

    /// What the artifact file calls the kind of registry; for ACR there is no word of its own.
    pub(crate) fn registry_type(self) -> &'static str {
        match self {
            Self::Docker | Self::Acr => "Docker",
            Self::Ecr => "ECR",
            Self::Gcr => "GCR",
            Self::Gar => "GAR",
        }
    }
}
