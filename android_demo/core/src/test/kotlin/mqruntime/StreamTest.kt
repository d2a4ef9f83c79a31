package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class StreamTest {
    private val toy = spell("hello phone")
    private val silence = FloatArray(16000)

    /** PCM in which the toy reads `text`: five frames a letter, silence between equal ones. */
    private fun spell(text: String): FloatArray {
        val frames = ArrayList<Int>()
        for ((i, letter) in text.withIndex()) {
            if (i > 0 && text[i - 1] == letter) frames.add(0)
            repeat(5) { frames.add(if (letter == ' ') 1 else letter - 'a' + 2) }
        }
        return FloatArray(frames.size * 320) { frames[it / 320] / 64f }
    }

    @Test
    fun utterancesAreHeardOnceWhereTheyWere() {
        Recognizer.open(TestData.bundle("toy-ctc"), threads = 1).use { recognizer ->
            val stream = recognizer.stream(partialSeconds = 0.2)
            val audio = silence + toy + silence + toy + silence
            val heard = (audio.indices step 1000).flatMap {
                stream.feed(audio.copyOfRange(it, minOf(it + 1000, audio.size)))
            } + stream.finish()
            val finals = heard.filter { it.isFinal }
            assertEquals(listOf("hello phone", "hello phone"), finals.map { it.text })
            assertTrue(heard.any { !it.isFinal && "hello phone".startsWith(it.text) })
            val seconds = toy.size / 16000.0
            for ((final, start) in finals.zip(listOf(1.0, 2.0 + seconds))) {
                assertTrue(final.start in start - 0.35..start, "${final.start}")
                assertTrue(final.end in start + seconds..start + seconds + 0.7, "${final.end}")
            }
        }
    }

    @Test
    fun speechThatIsNotOverIsHeardAtTheEnd() {
        Recognizer.open(TestData.bundle("toy-ctc"), threads = 1).use { recognizer ->
            val stream = recognizer.stream(partialSeconds = null)
            assertEquals(emptyList<StreamResult>(), stream.feed(silence + toy))
            assertEquals(listOf("hello phone"), stream.finish().map { it.text })
            assertEquals(emptyList<StreamResult>(), stream.finish())
        }
    }

    @Test
    fun utterancesAreThoseOfPython() {
        val vad = EnergyVad(16000)
        val pcm = Wav.load(TestData.clip("live.wav"))
        val found = pcm.indices.step(1000).flatMap { vad.feed(pcm.copyOfRange(it, minOf(it + 1000, pcm.size))) }
        assertEquals(TestData.utterances("live.wav"), (found + vad.finish()).map { it.start to it.pcm.size })
    }

    @Test
    fun silenceAndSteadyNoiseAreNoSpeech() {
        val vad = EnergyVad(16000)
        val random = java.util.Random(1)
        assertEquals(0, vad.feed(FloatArray(160000) { 0.01f * random.nextGaussian().toFloat() }).size)
        assertFalse(vad.speaking)
        assertEquals(0, vad.feed(FloatArray(80000)).size)
        assertFalse(vad.speaking)
        vad.feed(FloatArray(1600) { 0.1f * random.nextGaussian().toFloat() })
        assertTrue(vad.speaking)
    }

    @Test
    fun longSpeechIsCutAndNothingIsLost() {
        val vad = EnergyVad(16000, VadSettings(longestSeconds = 2.0))
        val speech = FloatArray(160000) { if (it % 2 == 0) 0.5f else -0.5f }
        val utterances = vad.feed(silence + speech) + vad.finish()
        assertTrue(utterances.size >= 4)
        assertTrue(utterances.all { it.pcm.size <= 32000 })
        assertTrue(utterances.zipWithNext().all { (a, b) -> a.start + a.pcm.size == b.start })
        assertTrue(utterances.sumOf { it.pcm.size } >= speech.size)
    }

    @Test
    fun keywordsAreFoundWhereTheyAre() {
        Recognizer.open(TestData.bundle("toy-keywords"), threads = 1).use { recognizer ->
            val loud = FloatArray(16000) { if (it % 2 == 0) 0.9f else -0.9f }
            val found = recognizer.keywords(silence + silence + loud + silence + silence, ignored = setOf("quiet"))
            assertEquals(listOf("loud"), found.map { it.text })
            assertTrue(found[0].start <= 2.0 && found[0].end >= 3.0, "${found[0]}")
            assertTrue(found[0].score!! > 0.6)
        }
        Recognizer.open(TestData.bundle("toy-ctc")).use { recognizer ->
            val error = assertThrows(ModelError::class.java) { recognizer.keywords(silence) }
            assertEquals("the model's task is 'ctc'; it knows no keywords", error.message)
        }
    }
}
