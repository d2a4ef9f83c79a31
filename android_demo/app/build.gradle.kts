// See ../settings.gradle.kts.
import org.jetbrains.kotlin.gradle.dsl.JvmTarget

plugins {
    id("com.android.application")
    kotlin("android")
}

android {
    namespace = "mqtool.demo"
    compileSdk = property("target.sdk").toString().toInt()

    defaultConfig {
        applicationId = "mqtool.demo"
        minSdk = property("min.sdk").toString().toInt()
        targetSdk = property("target.sdk").toString().toInt()
        versionCode = 1
        versionName = property("revision").toString()
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
    }

    buildTypes {
        release {
            isMinifyEnabled = true
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"), "proguard-rules.pro")
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }

    androidResources {
        noCompress += "mqz"
    }

    packaging {
        jniLibs.useLegacyPackaging = false // mapped from the APK, aligned to 16 KB
    }

    sourceSets["main"].kotlin.srcDir("src/main/kotlin")
}

kotlin {
    compilerOptions {
        jvmTarget.set(JvmTarget.JVM_1_8)
    }
}

dependencies {
    implementation(project(":core"))
    implementation("com.google.code.gson:gson:${property("gson.version")}")
    implementation("com.microsoft.onnxruntime:onnxruntime-android:${property("onnxruntime.version")}")
}
