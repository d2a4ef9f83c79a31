// For Android Studio. Never built where this repository is tested, which has no Android SDK: see
// VERIFIED.md. The build that is tested is pom.xml, and versions are read from there.
import javax.xml.parsers.DocumentBuilderFactory

pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}

dependencyResolutionManagement {
    repositoriesMode.set(RepositoriesMode.FAIL_ON_PROJECT_REPOS)
    repositories {
        google()
        mavenCentral()
    }
}

/** The `properties` of pom.xml, as extra properties of every project. */
val properties = DocumentBuilderFactory.newInstance().newDocumentBuilder()
    .parse(file("pom.xml")).getElementsByTagName("properties").item(0).childNodes
val versions = (0 until properties.length).map(properties::item).associate { it.nodeName to it.textContent.trim() }
gradle.beforeProject { versions.forEach { (name, value) -> extra[name] = value } }

rootProject.name = "android-demo"
include(":core", ":app")
