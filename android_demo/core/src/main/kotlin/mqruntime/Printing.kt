package mqruntime

import java.util.Locale

private val UNPRINTABLE =
    setOf(Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.LINE_SEPARATOR).map { it.toInt() }

/**
 * Text with its control and format characters escaped.
 *
 * What comes out of files may hold line ends, escape sequences, and marks that turn the direction of what
 * is around them.
 *
 * @param kept characters of these kinds that stay: tabs, line ends, and what joins letters or not.
 */
fun printable(text: String, kept: String = "\t\n\u200c\u200d"): String {
    val printed = StringBuilder(text.length)
    var at = 0
    while (at < text.length) {
        val point = text.codePointAt(at)
        val isKept = point < 0x10000 && point.toChar() in kept
        if (isKept || Character.getType(point) !in UNPRINTABLE) {
            printed.appendCodePoint(point)
        } else {
            printed.append(escaped(point))
        }
        at += Character.charCount(point)
    }
    return printed.toString()
}

private fun escaped(point: Int): String = when (point) {
    '\t'.code -> "\\t"
    '\n'.code -> "\\n"
    '\r'.code -> "\\r"
    in 0 until 0x100 -> "\\x%02x".format(Locale.ROOT, point)
    in 0 until 0x10000 -> "\\u%04x".format(Locale.ROOT, point)
    else -> "\\U%08x".format(Locale.ROOT, point)
}
