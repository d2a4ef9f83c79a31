package mqruntime

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test

/** What comes out of files is shown as one knows it, and read with bounds. */
class PrintingTest {
    @Test
    fun controlCharactersAreEscaped() {
        assertEquals("plain, naïve, 日本, क्\u200dष, 🙂", printable("plain, naïve, 日本, क्\u200dष, 🙂"))
        assertEquals("\\x1b[2J\\x1b]0;owned\\x07", printable("\u001b[2J\u001b]0;owned\u0007"))
        assertEquals("a\\u202eb", printable("a\u202eb"))
        assertEquals("a\\rb\\x9bc\\U000e0001", printable("a\rb\u009bc\uDB40\uDC01"))
        assertEquals("a\tb\n", printable("a\tb\n"))
        assertEquals("\\ud800", printable("\uD800"))
    }

    @Test
    fun errorsAreOneLineWhateverNamesAreInThem() {
        assertEquals("the file 'a\\nb\\u2028' \\x1b[2J", ModelError("the file 'a\nb\u2028' \u001b[2J").message)
    }

    @Test
    fun jsonIsAsDeepAndAsLargeAsReadersCanHold() {
        fun nested(depth: Int) = ("[".repeat(depth) + "]".repeat(depth)).toByteArray()
        var depth = 0
        var value: Any? = parseJson(nested(64))
        while (value is List<*>) {
            depth += 1
            value = value.firstOrNull()
        }
        assertEquals(64, depth)
        val ends = listOf(Long.MIN_VALUE, Long.MAX_VALUE)
        assertEquals(ends, parseJson("$ends".toByteArray()))
        val twice = "{\"a\":{\"b\":1,\"b\":1}}"
        val refused = listOf("9223372036854775808", "-9223372036854775809", "9".repeat(5000), twice)
        for (text in refused) assertThrows(IllegalArgumentException::class.java, { parseJson(text.toByteArray()) }, text)
        for (deep in listOf(65, 100_000)) {
            assertThrows(IllegalArgumentException::class.java) { parseJson(nested(deep)) }
        }
    }
}
