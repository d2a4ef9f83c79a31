// See ../settings.gradle.kts.
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    kotlin("jvm")
}

java {
    sourceCompatibility = JavaVersion.VERSION_1_8
    targetCompatibility = JavaVersion.VERSION_1_8
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_1_8)
        allWarningsAsErrors.set(true)
    }
}

dependencies {
    // The app brings the Android build of the same classes.
    compileOnly("com.microsoft.onnxruntime:onnxruntime:${property("onnxruntime.version")}")
    implementation("com.google.code.gson:gson:${property("gson.version")}")
    testImplementation("com.microsoft.onnxruntime:onnxruntime:${property("onnxruntime.version")}")
    testImplementation("org.junit.jupiter:junit-jupiter:${property("junit.version")}")
    testRuntimeOnly("org.junit.platform:junit-platform-launcher")
}

tasks.test {
    useJUnitPlatform()
    systemProperty("mqtool.test.bundles", rootDir.resolve("../work/android").path)
}
