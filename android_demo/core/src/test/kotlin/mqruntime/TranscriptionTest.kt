package mqruntime

import mqruntime.Told.BEGIN
import mqruntime.Told.END
import mqruntime.Told.START
import mqruntime.Told.VOCABULARY
import mqruntime.Told.at
import mqruntime.Told.certain
import mqruntime.Told.only
import mqruntime.Told.pcm
import mqruntime.Told.script
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import kotlin.math.exp
import kotlin.math.ln

/** Long recordings, timestamps, fallback and beams: the tests of Python's test_transcription.py. */
class TranscriptionTest {
    private val timed = DecodingOptions(timestamps = true)

    private fun hear(
        pcm: FloatArray,
        options: DecodingOptions = DecodingOptions(),
        prompt: Int = 1,
        say: (Float, List<Int>) -> FloatArray,
    ): Result {
        val decoder = Told.Decoder(prompt, say)
        return Told.recognizer(decoder).transcribe(pcm, options = options).also { assertEquals(0, decoder.open) }
    }

    private fun times(result: Result) = result.segments.map { Triple(it.start, it.end, it.text) }

    @Test
    fun windowsFollowTheTimestamps() {
        // The first window's last phrase is not finished: the second window starts at its beginning.
        val say = script(
            1f to listOf(at(0.0), 0, 1, at(12.5), at(12.5), 2, at(20.0), at(20.5), 3),
            2f to listOf(at(0.0), 3, 4, at(9.0), at(9.0), 5, at(14.98)),
        )
        val result = hear(pcm(35.0, 0 to 1f, 20 to 2f), say = say)
        val expected = listOf(
            Triple(0.0, 12.5, "ab"), Triple(12.5, 20.0, "c"), Triple(20.0, 29.0, "d e"), Triple(29.0, 34.98, "!"),
        )
        assertEquals(expected, times(result))
        assertEquals(listOf(listOf(0, 1), listOf(2), listOf(3, 4), listOf(5)), result.segments.map { it.tokens })
        assertEquals("ab c d e !", result.text)
        assertEquals(listOf(0, 1, 2, 3, 4, 5), result.tokens)
        assertEquals(35.0, result.seconds)
    }

    @Test
    fun theTextBeforeAWindowIsItsPromptUntilOneIsDoubtful() {
        val previous = PreviousText(start = 9, room = 5, prompt = listOf(1, 2), follows = true)
        assertEquals(listOf(9, 1, 2), previous.tokens)
        previous.add(listOf(3, 4, 5, 6), temperature = 0.4)
        assertEquals(listOf(9, 1, 2, 4, 5, 6), previous.tokens)
        previous.add(listOf(7), temperature = 0.6)
        assertEquals(listOf(9, 1, 2), previous.tokens)
        assertEquals(emptyList<Int>(), PreviousText().also { it.add(listOf(1), 0.0) }.tokens)
        assertEquals(listOf(9, 3, 4), PreviousText(9, 2, listOf(1, 2, 3, 4)).tokens)
        val without = PreviousText(9, -1, listOf(1), follows = true).also { it.add(listOf(2), 0.0) }
        assertEquals(emptyList<Int>(), without.tokens)
    }

    @Test
    fun aModelWithoutTheTokenTakesNoPrompt() {
        for (options in listOf(DecodingOptions(prompt = "a"), DecodingOptions(previousText = true))) {
            val error = assertThrows(ModelError::class.java) {
                hear(pcm(3.0, 0 to 1f), options) { _, _ -> certain(END) }
            }
            assertTrue("has no token <|startofprev|>" in error.message, error.message)
        }
    }

    @Test
    fun windowThatEndsWithAnEndIsDone() {
        val say = script(1f to listOf(at(0.0), 0, at(10.0)), 2f to listOf(at(0.0), 1, at(5.0)))
        val result = hear(pcm(40.0, 0 to 1f, 30 to 2f), say = say)
        assertEquals(listOf(Triple(0.0, 10.0, "a"), Triple(30.0, 35.0, "b")), times(result))
    }

    @Test
    fun timesNeverExceedTheRecording() {
        val result = hear(pcm(2.5, 0 to 1f), timed, say = script(1f to listOf(at(0.0), 0, at(28.0))))
        assertEquals(listOf(Triple(0.0, 2.5, "a")), times(result))
        val say = script(1f to listOf(at(0.0), 0, at(2.5), at(2.52), 1, at(2.6)))
        val between = hear(pcm(2.505, 0 to 1f), timed, say = say)
        assertEquals(listOf(Triple(0.0, 2.5, "a"), Triple(2.505, 2.505, "b")), times(between))
    }

    @Test
    fun phraseWithoutEndLastsToTheEndOfItsWindow() {
        val result = hear(pcm(3.0, 0 to 1f), timed, say = script(1f to listOf(at(0.4), 0, 1)))
        assertEquals(listOf(Triple(0.4, 3.0, "ab")), times(result))
    }

    @Test
    fun shortRecordingsHaveOneSegmentAndNoTimestampsUnlessAsked() {
        val result = hear(pcm(3.0, 0 to 1f), prompt = 2, say = script(1f to listOf(0, 1)))
        assertEquals(listOf(Triple(0.0, 3.0, "ab")), times(result))
    }

    @Test
    fun windowsWithoutSpeechAreSkipped() {
        val speech = script(1f to listOf(at(0.0), 0, at(5.0)))
        val result = hear(pcm(65.0, 60 to 1f)) { first, tokens ->
            when { // silence: no speech is likely, and no text is
                first != 0f -> speech(first, tokens)
                tokens.isEmpty() -> certain(Told.NO_SPEECH, 30f)
                else -> FloatArray(VOCABULARY)
            }
        }
        assertEquals(listOf(Triple(60.0, 65.0, "a")), times(result))
    }

    @Test
    fun repetitionRaisesTheTemperature() {
        // Greedy repeats itself; only by chance comes token 1, which ends the text.
        val say = { _: Float, tokens: List<Int> ->
            if (tokens.isEmpty()) certain(at(0.0)) else if (1 in tokens) certain(END) else only(0 to 1f, 1 to 0.9f)
        }
        val greedy = hear(pcm(3.0), timed.copy(temperature = listOf(0.0)), say = say)
        assertEquals("a".repeat(38), greedy.text)
        val result = hear(pcm(3.0), timed, say = say)
        assertTrue(result.text.endsWith("b"))
        assertTrue(result.text.length < 38)
        assertEquals(result.tokens, hear(pcm(3.0), timed, say = say).tokens)
    }

    @Test
    fun beamsFindWhatGreedyMisses() {
        val decoder = Told.Decoder { _, tokens ->
            when (tokens) {
                emptyList<Int>() -> only(0 to 0.1f, 1 to 0f) // a is a little likelier than b, but
                listOf(0) -> only(2 to 0f, 3 to 0f, 4 to 0f, 5 to 0f) // what follows a is anybody's guess
                listOf(1) -> only(3 to 0f)
                else -> only(END to 0f)
            }
        }
        val greedy = Told.search(decoder) { Search.sample(it, 0.0) }
        val best = Told.search(decoder) { Search.beamSearch(it, 3) }
        assertEquals(0, greedy.tokens[0])
        assertEquals(listOf(1, 3), best.tokens)
        assertTrue(best.logProbability > greedy.logProbability)
        assertEquals(ln(1 / (1 + exp(0.1))) / 3, best.logProbability, 1e-6)
    }

    @Test
    fun oneBeamIsGreedy() {
        val decoder = Told.Decoder(say = table(endBonus = 5f))
        val greedy = Told.search(decoder) { Search.sample(it, 0.0) }
        assertTrue(greedy.tokens.isNotEmpty())
        assertEquals(greedy, Told.search(decoder) { Search.beamSearch(it, 1) })
        assertTrue(Told.search(decoder) { Search.beamSearch(it, 5) }.logProbability >= greedy.logProbability)
    }

    @Test
    fun memoryGrowsByACacheABeam() {
        val decoder = Told.Decoder(say = table(endBonus = -1000f))
        val decoded = Told.search(decoder) { Search.beamSearch(it, 4) }
        assertEquals(Told.settings.maxTokens - 1, decoded.tokens.size, "the room was used up")
        assertEquals(0, decoder.open)
        assertEquals(8, decoder.mostOpen) // while one generation makes the next
    }

    @Test
    fun stoppingLeavesNothingOpen() {
        for (search in listOf<(DecodingContext) -> Decoded>({ Search.sample(it, 0.5) }, { Search.beamSearch(it, 4) })) {
            val decoder = Told.Decoder(say = table(endBonus = -1000f))
            var calls = 0
            val stop = { _: List<Int> -> if (++calls == 12) throw InterruptedException("stop") }
            assertThrows(InterruptedException::class.java) { Told.search(decoder, stop, search) }
            assertEquals(0, decoder.open)
        }
    }

    private fun table(endBonus: Float): (Float, List<Int>) -> FloatArray {
        val random = java.util.Random(0)
        val rows = List(50) {
            FloatArray(VOCABULARY) { 3 * random.nextGaussian().toFloat() }.also { row -> row[END] += endBonus }
        }
        return { _, tokens -> rows[(7 * tokens.size + 3 * tokens.sum()) % 50] }
    }

    private fun allowed(vararg tokens: Int): Set<Int> {
        val scores = FloatArray(VOCABULARY) { if (it <= END) 20f else 0f } // likelier than all timestamps together
        Timestamps.applyTimestampRules(scores, Told.settings, tokens.toList())
        return scores.indices.filter { scores[it].isFinite() }.toSet()
    }

    @Test
    fun whatMayFollowWhat() {
        val text = (0 until START).toSet()
        assertEquals((BEGIN..BEGIN + 50).toSet(), allowed())
        assertEquals(text + END, allowed(at(0.2)))
        assertEquals(text + END + (at(0.22) until VOCABULARY), allowed(at(0.2), 3))
        assertEquals(setOf(END) + (at(1.0) until VOCABULARY), allowed(at(0.2), 3, at(1.0)))
        assertEquals(text + END, allowed(at(0.2), 3, at(1.0), at(1.0)))
    }

    @Test
    fun timestampsThatAreLikelierTogetherWin() {
        val scores = certain(2, 1f)
        Timestamps.applyTimestampRules(scores, Told.settings, listOf(at(0.2), 3))
        assertFalse((0 until BEGIN).any { scores[it].isFinite() })
    }

    @Test
    fun textSoFarHoldsEarlierWindowsAndEndsWhole() {
        val say = script(
            1f to listOf(at(0.0), 0, 1, at(12.5), at(12.5), 2, at(30.0)), 2f to listOf(at(0.0), 3, 4, at(4.0)),
        )
        val texts = ArrayList<String>()
        Told.recognizer(Told.Decoder(say = say)).transcribe(pcm(35.0, 0 to 1f, 30 to 2f)) { texts.add(it) }
        assertEquals(listOf("", "a", "ab", "abc", "ab c", "ab c d", "ab c d e"), texts.distinct())
        assertEquals("ab c d e", texts.last())
    }

    @Test
    fun drawsAreNumpys() {
        val draws = Draws()
        assertEquals(TestData.draws, List(TestData.draws.size) { draws.next() })
    }

    @Test
    fun ratiosAndTimesAreRoundedAsInPython() {
        assertEquals(0.0, Search.compressionRatio(""))
        assertEquals(38 / 12.0, Search.compressionRatio("a".repeat(38)))
        assertEquals(47 / 50.0, Search.compressionRatio("the train to the coast leaves at half past nine"))
        assertEquals(300 / 16.0, Search.compressionRatio("ü ".repeat(100)))
        val rounded = listOf(0.0005, 1.0005, 2.6745, 20.5555, 0.0015, 1.2345).map(::milliseconds)
        assertEquals(listOf(0.001, 1.0, 2.675, 20.555, 0.002, 1.234), rounded)
    }

    /** As tests/runtime/test_speech_task.py. */
    @Test
    fun everyWayOfDecodingIsPromptedWithTheTask() {
        val known = Told.settings.copy(languages = mapOf("en" to 3, "fr" to 4), transcribe = 5, translate = 2)
        val tokens = mapOf("transcribe" to 5, "translate" to 2)
        val ways = listOf(
            DecodingOptions(),
            DecodingOptions(timestamps = true),
            DecodingOptions(beamSize = 3),
            DecodingOptions(beamSize = 2, timestamps = true),
            DecodingOptions(temperature = listOf(0.7)),
            DecodingOptions(temperature = listOf(0.0, 0.5), logprobThreshold = 1.0),
        )
        for (default in tokens.keys) for (task in listOf(null) + tokens.keys) for (way in ways) {
            val decoder = Told.Decoder(if (way.timestamps == true) 3 else 4, script(1f to listOf(at(0.0), 0, at(9.0))))
            val recognizer = Told.recognizer(decoder, known.copy(task = default))
            val result = recognizer.transcribe(pcm(10.0, 0 to 1f), "fr", way.copy(task = task))
            assertEquals("fr", result.language)
            val end = if (way.timestamps == true) emptyList() else listOf(Told.NO_TIMESTAMPS)
            val expected = listOf(START, 4, tokens.getValue(task ?: default)) + end
            assertTrue(decoder.prompts.size >= if (way.temperature?.size == 2) 2 else 1)
            assertEquals(setOf(expected), decoder.prompts.toSet())
        }
    }

    @Test
    fun modelsWithoutTheTaskRefuseIt() {
        val translate = DecodingOptions(task = "translate")
        val languages = mapOf("en" to 3)
        for ((settings, reason) in listOf(
            Told.settings to "knows English only",
            Told.settings.copy(languages = languages, transcribe = 5) to "has no token for it",
        )) {
            val decoder = Told.Decoder(1, script(1f to listOf(0)))
            val recognizer = Told.recognizer(decoder, settings)
            val error = assertThrows(ModelError::class.java) { recognizer.transcribe(pcm(1.0, 0 to 1f), options = translate) }
            val way = "leave it out or take a multilingual Whisper"
            assertEquals("whisper: task 'translate': this model $reason; $way", error.message)
        }
        val transcribed = hear(pcm(1.0, 0 to 1f), DecodingOptions(task = "transcribe"), 2, script(1f to listOf(0)))
        assertEquals("a", transcribed.text)
    }

    @Test
    fun optionsOutOfRangeAreRefused() {
        for (make in listOf<() -> DecodingOptions>(
            { DecodingOptions(beamSize = 0) },
            { DecodingOptions(beamSize = 17) },
            { DecodingOptions(temperature = emptyList()) },
            { DecodingOptions(temperature = listOf(-1.0)) },
            { DecodingOptions(temperature = listOf(Double.NaN)) },
            { DecodingOptions(task = "Translate") },
        )) {
            val error = assertThrows(ModelError::class.java) { make() }
            assertTrue(Regex("(beamSize|temperature|task) is .*").matches(error.message), error.message)
        }
    }
}
