// See settings.gradle.kts. The Kotlin version must be kotlin.version of pom.xml: plugins are resolved
// before it can be read.
plugins {
    id("com.android.application") version "8.13.0" apply false
    kotlin("android") version "2.4.20" apply false
    kotlin("jvm") version "2.4.20" apply false
}
