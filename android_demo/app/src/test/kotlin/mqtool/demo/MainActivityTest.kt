package mqtool.demo

import android.content.pm.PackageManager
import android.os.Bundle
import android.view.View
import mqruntime.Wav
import mqruntime.printable
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.Shadows.shadowOf
import java.io.ByteArrayOutputStream
import java.io.File
import java.util.zip.ZipInputStream

/** What happens to a person with this app, on real bundles and the real onnxruntime. */
@RunWith(DemoRunner::class)
class MainActivityTest {
    private val hello = Wav.load(Demo.clip("toy.wav"))

    @Test
    fun withoutABundleTheAppSaysHowToGetOne() {
        val demo = Demo()
        assertEquals(View.VISIBLE, demo.activity.findViewById<View>(R.id.no_model).visibility)
        demo.allowRecording()
        demo.click(R.id.talk)
        demo.microphone.say(hello)
        demo.click(R.id.talk)
        assertEquals(demo.string(R.string.no_model), demo.text(R.id.status))
    }

    @Test
    fun holdingTheButtonTranscribes() {
        val demo = Demo()
        demo.import("toy-ctc")
        assertEquals(View.GONE, demo.activity.findViewById<View>(R.id.no_model).visibility)
        demo.allowRecording()
        demo.click(R.id.talk)
        assertTrue(demo.microphone.isOn)
        assertEquals(demo.string(R.string.release_to_stop), demo.text(R.id.talk))
        demo.microphone.say(hello)
        assertTrue(demo.activity.findViewById<LevelView>(R.id.level).levelDb > -30)
        demo.click(R.id.talk)
        assertFalse(demo.microphone.isOn)
        assertEquals("hello phone", demo.text(R.id.text))
        assertTrue(demo.text(R.id.details), "0.4 s of audio" in demo.text(R.id.details))
    }

    @Test
    fun pushedBundleIsCopiedInAndAWavFileIsTranscribed() {
        val demo = Demo(start = false)
        Demo.bundle("toy-ctc").copyTo(File(demo.application.getExternalFilesDir(null), "pushed.mqz"))
        demo.start()
        assertEquals(listOf("pushed.mqz"), demo.state.bundles.map(File::getName))
        demo.state.openRecording("toy.wav", Purpose.TRANSCRIBE) { Demo.clip("toy.wav").inputStream() }
        demo.idle()
        assertEquals("hello phone", demo.text(R.id.text))
        demo.state.openRecording("expected.json", Purpose.TRANSCRIBE) { "no WAV".byteInputStream() }
        demo.idle()
        assertEquals("expected.json: is not a WAV file; convert the recording to WAV", demo.text(R.id.status))
    }

    @Test
    fun graphsThatMayNotRunOrAnswerOtherwiseAreRefusedInOneLine() {
        val errors = mapOf(
            "ctc-Round" to "has the operator 'Round', which mqtool never writes",
            "ctc-endless" to "has the operator 'Identity', which mqtool never writes",
            "ctc-rank-2" to "a graph's output 'logits' is float32 [1, ",
            "ctc-strings" to "a graph's output 'logits' is object [1, ",
        )
        for ((name, error) in errors) {
            val demo = Demo()
            demo.import("wrong/$name")
            demo.state.openRecording("toy.wav", Purpose.TRANSCRIBE) { Demo.clip("toy.wav").inputStream() }
            demo.idle()
            assertTrue(demo.text(R.id.status), error in demo.text(R.id.status))
            assertFalse('\n' in demo.text(R.id.status))
        }
    }

    @Test
    fun phrasesOfALongRecordingHaveTimes() {
        for ((bundle, clip, number) in listOf(Triple("toy-whisper", "marks.wav", 0), Triple("random-moonshine", "long.wav", 1))) {
            val demo = Demo()
            demo.import(bundle)
            demo.state.openRecording(clip, Purpose.TRANSCRIBE) { Demo.clip(clip).inputStream() }
            demo.idle()
            val segments = Demo.heard(bundle, number).getJSONArray("segments")
            val expected = List(segments.length()) { segments.getJSONObject(it) }.map {
                "0:%02d %s".format(it.getDouble("start").toInt(), printable(it.getString("text")))
            }
            assertTrue(expected.size > 1)
            assertEquals(expected.joinToString("\n"), demo.text(R.id.text))
        }
    }

    @Test
    fun damagedBundleIsRefusedAndNotKept() {
        val demo = Demo()
        val bytes = Demo.bundle("toy-ctc").readBytes()
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        demo.state.import("broken.mqz", bytes.size.toLong()) { bytes.inputStream() }
        demo.idle()
        assertTrue(demo.text(R.id.status), demo.text(R.id.status).startsWith("broken.mqz: "))
        assertTrue(demo.text(R.id.status).endsWith("copy or package it again"))
        assertEquals(emptyList<File>(), demo.state.bundles)
        assertEquals(0, File(demo.application.filesDir, "bundles").list()!!.size)
    }

    @Test
    fun bundleThatIsDamagedLaterIsRefusedWhenItIsOpened() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.state.models.close()
        demo.state.bundles.single().let { it.writeBytes(it.readBytes().copyOf(1000)) }
        demo.state.openRecording("toy.wav", Purpose.TRANSCRIBE) { Demo.clip("toy.wav").inputStream() }
        demo.idle()
        assertTrue(demo.text(R.id.status), demo.text(R.id.status).startsWith("toy-ctc.mqz: "))
    }

    @Test
    fun refusedPermissionIsExplained() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.click(R.id.talk)
        assertFalse(demo.microphone.isOn)
        val asked = shadowOf(demo.activity).lastRequestedPermission
        assertEquals(listOf(android.Manifest.permission.RECORD_AUDIO), asked.requestedPermissions.toList())
        demo.activity.onRequestPermissionsResult(
            asked.requestCode, asked.requestedPermissions, intArrayOf(PackageManager.PERMISSION_DENIED),
        )
        assertEquals(demo.string(R.string.error_permission), demo.text(R.id.status))
        demo.click(R.id.status_action)
        assertEquals(
            android.provider.Settings.ACTION_APPLICATION_DETAILS_SETTINGS,
            shadowOf(demo.activity).nextStartedActivity.action,
        )
    }

    @Test
    fun rotationInMidRecordingLosesNothing() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.allowRecording()
        demo.click(R.id.talk)
        demo.microphone.say(hello.copyOfRange(0, hello.size / 2))
        val before = demo.activity
        demo.controller.recreate()
        demo.idle()
        assertNotSame(before, demo.activity)
        assertTrue(demo.microphone.isOn)
        assertEquals(demo.string(R.string.release_to_stop), demo.text(R.id.talk))
        demo.microphone.say(hello.copyOfRange(hello.size / 2, hello.size))
        demo.click(R.id.talk)
        assertEquals("hello phone", demo.text(R.id.text))
    }

    @Test
    fun leavingTheAppEndsTheRecordingAndKeepsIt() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.allowRecording()
        demo.click(R.id.talk)
        demo.microphone.say(hello)
        demo.controller.pause().stop()
        assertFalse(demo.microphone.isOn)
        demo.controller.restart().start().resume()
        demo.idle()
        assertEquals("hello phone", demo.text(R.id.text))
    }

    @Test
    fun callComingInEndsTheRecordingAndSaysSo() {
        val demo = Demo()
        demo.allowRecording()
        demo.show(R.id.tab_compare)
        demo.click(R.id.talk)
        demo.microphone.say(hello)
        demo.microphone.fail(Microphone.Failure.INTERRUPTED)
        assertEquals(demo.string(R.string.error_interrupted), demo.text(R.id.status))
        assertEquals(hello.size, demo.state.last!!.size)
        assertNull(demo.state.recording)
        demo.click(R.id.talk)
        demo.microphone.fail(Microphone.Failure.UNAVAILABLE)
        assertEquals(demo.string(R.string.error_microphone), demo.text(R.id.status))
    }

    @Test
    fun textAndRecordingSurviveTheProcess() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.state.openRecording("toy.wav", Purpose.TRANSCRIBE) { Demo.clip("toy.wav").inputStream() }
        demo.idle()
        val saved = Bundle()
        demo.controller.saveInstanceState(saved).pause().stop().destroy()

        val next = DemoState(demo.application, { it.run() }, { it.run() }, FakeMicrophone())
        next.restore(saved.getString("model"), saved.getString("text")!!, saved.getString("details")!!)
        assertEquals("hello phone", next.text)
        assertEquals("toy-ctc.mqz", next.selected!!.name)
        assertEquals(hello.size, next.last!!.size)

        val controller = Robolectric.buildActivity(MainActivity::class.java).create(saved).start()
        assertEquals(R.id.tab_transcribe, controller.get().findViewById<android.widget.RadioGroup>(R.id.tabs).checkedRadioButtonId)
    }

    @Test
    fun tooShortARecordingIsRefused() {
        val demo = Demo()
        demo.allowRecording()
        demo.click(R.id.talk)
        demo.click(R.id.talk)
        assertEquals(demo.string(R.string.error_too_short), demo.text(R.id.status))
    }

    @Test
    fun keywordsAreListedWithScores() {
        val demo = Demo()
        demo.allowRecording()
        demo.import("toy-keywords")
        demo.show(R.id.tab_keywords)
        assertTrue(demo.text(R.id.known), "quiet, loud" in demo.text(R.id.known))
        demo.click(R.id.listen)
        demo.microphone.say(Wav.load(Demo.clip("loud.wav")).let { noise -> FloatArray(32000) { 2.5f * noise[it % 16000] } })
        demo.click(R.id.listen)
        assertTrue(demo.text(R.id.found), Regex("loud: [0-9]+ %").matches(demo.text(R.id.found)))
        demo.import("toy-ctc")
        demo.click(R.id.listen)
        assertEquals(demo.string(R.string.not_a_keyword_model), demo.text(R.id.status))
        assertFalse(demo.microphone.isOn)
    }

    @Test
    fun twoModelsAreCompared() {
        val demo = Demo()
        demo.import("toy-keywords")
        demo.import("toy-ctc")
        demo.show(R.id.tab_compare)
        assertFalse(demo.activity.findViewById<View>(R.id.run).isEnabled)
        demo.state.openRecording("toy.wav", Purpose.COMPARE) { Demo.clip("toy.wav").inputStream() }
        demo.idle()
        demo.click(R.id.run)
        assertTrue(demo.text(R.id.first_result), demo.text(R.id.first_result).startsWith("hello phone\n"))
        assertTrue(demo.text(R.id.second_result), Regex("loud\n[0-9.]+ s, [0-9]+ KB").matches(demo.text(R.id.second_result)))
    }

    @Test
    fun benchmarkIsShownAndExported() {
        val demo = Demo()
        demo.import("toy-ctc")
        demo.show(R.id.tab_benchmark)
        demo.click(R.id.run)
        assertTrue(demo.text(R.id.result), "Real-time factor: 0." in demo.text(R.id.result))
        val json = ByteArrayOutputStream()
        demo.state.exportFigures { json }
        demo.idle()
        val fields = org.json.JSONObject(json.toString())
        assertEquals(10.0, fields.getDouble("seconds_audio"), 0.0)
        assertEquals(5, fields.getInt("runs"))
        assertEquals(demo.string(R.string.saved), demo.text(R.id.status))
    }

    @Test
    fun clipsAreRecordedAndExported() {
        val demo = Demo()
        demo.allowRecording()
        demo.show(R.id.tab_clips)
        repeat(2) {
            demo.click(R.id.talk)
            demo.microphone.say(hello + hello)
            demo.click(R.id.talk)
        }
        assertEquals(demo.string(R.string.clips_count, 2, 32), demo.text(R.id.count))
        val zip = ByteArrayOutputStream()
        demo.state.exportClips { zip }
        demo.idle()
        val names = ArrayList<String>()
        ZipInputStream(zip.toByteArray().inputStream()).use { while (true) names.add(it.nextEntry?.name ?: break) }
        assertEquals(listOf("01.wav", "02.wav"), names)
        demo.click(R.id.remove)
        assertEquals(demo.string(R.string.clips_count, 1, 32), demo.text(R.id.count))
    }

    @Test
    fun aboutShowsTheManifestAndChecksTheModel() {
        val demo = Demo()
        demo.import("random-whisper")
        demo.show(R.id.tab_about)
        for (part in listOf("random-whisper.mqz", "whisper, transcribe", "Not signed", "Packed by mqtool")) {
            assertTrue("$part: ${demo.text(R.id.manifest)}", part in demo.text(R.id.manifest))
        }
        demo.click(R.id.selftest)
        assertEquals(demo.string(R.string.about_selftest_good, 2), demo.text(R.id.checked))
        demo.click(R.id.remove)
        assertEquals(emptyList<File>(), demo.state.bundles)
    }

    @Test
    fun importCanBeCancelled() {
        val demo = Demo()
        val file = Demo.bundle("random-whisper")
        demo.state.import(file.name, file.length()) { demo.state.cancel(); file.inputStream() }
        demo.idle()
        assertEquals(demo.string(R.string.cancelled), demo.text(R.id.status))
        assertEquals(emptyList<File>(), demo.state.bundles)
    }
}
