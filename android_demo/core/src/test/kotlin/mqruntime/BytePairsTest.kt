package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test

/** Text to tokens: the tests of Python's test_byte_pairs.py, and its answers. */
class BytePairsTest {
    private val bytes = (0..127).map { Vocabulary.byteUnits(it.toChar().toString()) }

    @Test
    fun asPythonEncodes() {
        assumeTrue(TestData.encoded.isNotEmpty(), "no weights of whisper-tiny.en; run `make weights`")
        assertTrue(TestData.encoded.size > 400)
        Recognizer.open(TestData.bundle("whisper-tiny.en-coded")).use { recognizer ->
            val vocabulary = recognizer.vocabulary!!
            val encoder = BytePairEncoder.of(vocabulary, recognizer.manifest.whisper!!)
            for ((text, tokens) in TestData.encoded) {
                assertEquals(tokens, encoder.encode(text), text)
                assertEquals(text, vocabulary.bpeText(tokens))
            }
        }
    }

    @Test
    fun pieces() {
        val expected = listOf("I", "'ll", " go", ",", " 12", " km", " \n\n ", " on", "'")
        assertEquals(expected, BytePairEncoder.pieces("I'll go, 12 km \n\n  on'"))
    }

    @Test
    fun theLowestIdIsMergedFirstAndAddedWordsComeBeforeAll() {
        val tokens = bytes + listOf("ab", "bc", "abc", "New", "NewĠYork")
        val encoder = BytePairEncoder(Vocabulary(tokens), tokens.indices, listOf(131, 132))
        assertEquals(listOf(130), encoder.encode("abc"))
        assertEquals(listOf(128, 129), encoder.encode("abbc"))
        assertEquals(listOf('a'.code, 128), encoder.encode("aab"))
        assertEquals(listOf(132, ','.code, ' '.code, 131), encoder.encode("New York, New"))
    }

    @Test
    fun aTableThatIsNotOfBytesIsRefused() {
        assertThrows(ModelError::class.java) { BytePairEncoder(Vocabulary(listOf("a", "b")), 0..1) }
        val error = assertThrows(ModelError::class.java) { BytePairEncoder(Vocabulary(bytes), 0..127).encode("д") }
        assertEquals("the vocabulary has no token for 'Ð'", error.message)
    }
}
