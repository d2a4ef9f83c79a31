package mqruntime

import java.math.BigDecimal
import java.math.MathContext
import java.math.RoundingMode
import java.util.Locale
import kotlin.math.abs

/**
 * The one spelling that a value has in the manifests of a bundle: `canonical_json` of
 * `mqruntime/bundle/manifest.py` describes it.
 *
 * @param value from [parseJson].
 * @throws IllegalArgumentException a number is infinite.
 */
fun canonicalJson(value: Any?): ByteArray {
    val text = StringBuilder()
    write(value, text)
    return text.append('\n').toString().toByteArray()
}

private fun write(value: Any?, text: StringBuilder) {
    when (value) {
        is Map<*, *> -> {
            val keys = value.keys.map { it as String }.sortedWith(BY_CODE_POINTS)
            writeAll(keys, "{}", text) {
                write(it, text)
                write(value[it], text.append(':'))
            }
        }
        is List<*> -> writeAll(value, "[]", text) { write(it, text) }
        is String -> writeString(value, text)
        is Double -> text.append(shortest(value))
        else -> text.append(value) // an integer, true, false or null
    }
}

private fun <T> writeAll(items: List<T>, brackets: String, text: StringBuilder, write: (T) -> Unit) {
    text.append(brackets[0])
    for ((position, item) in items.withIndex()) {
        if (position > 0) text.append(',')
        write(item)
    }
    text.append(brackets[1])
}

private val BY_CODE_POINTS = Comparator<String> { one, other ->
    val at = one.indices.firstOrNull { it >= other.length || one[it] != other[it] }
    when {
        at == null -> one.length - other.length
        at >= other.length -> 1
        else -> rank(one[at]) - rank(other[at])
    }
}

/** Surrogates, which stand for the highest code points, come last. */
private fun rank(unit: Char): Int = if (unit.isSurrogate()) unit.code + 0x10000 else unit.code

private val LETTERS = mapOf('\b' to 'b', '\u000c' to 'f', '\n' to 'n', '\r' to 'r', '\t' to 't')

private fun writeString(value: String, text: StringBuilder) {
    text.append('"')
    for (unit in value) {
        when {
            unit == '"' || unit == '\\' -> text.append('\\').append(unit)
            unit in LETTERS -> text.append('\\').append(LETTERS[unit])
            unit < ' ' -> text.append("\\u%04x".format(Locale.ROOT, unit.code))
            else -> text.append(unit)
        }
    }
    text.append('"')
}

/** The fewest digits that are read as this number, and of as many the nearest: Python's `repr`. */
private fun shortest(value: Double): String {
    require(value.isFinite()) { "a number is too large" }
    val sign = if (value < 0 || 1 / value < 0) "-" else ""
    if (value == 0.0) return "${sign}0.0"
    val decimal = (1..17).firstNotNullOf { nearest(abs(value), it) }.stripTrailingZeros()
    val digits = decimal.unscaledValue().toString()
    val point = digits.length - decimal.scale() // digits before the point
    return sign + when {
        point !in -3..16 -> {
            val fraction = if (digits.length > 1) "." + digits.drop(1) else ""
            val exponent = abs(point - 1).toString().padStart(2, '0')
            "${digits[0]}${fraction}e${if (point < 1) '-' else '+'}$exponent"
        }
        point <= 0 -> "0." + "0".repeat(-point) + digits
        point >= digits.length -> digits + "0".repeat(point - digits.length) + ".0"
        else -> digits.take(point) + "." + digits.drop(point)
    }
}

/**
 * A decimal of so many digits that is read as `value`, the nearest to it, or null. Beside a power of
 * two the nearest decimal may be read as a neighbour, and the next one not.
 */
private fun nearest(value: Double, digits: Int): BigDecimal? {
    val exact = BigDecimal(value)
    return listOf(RoundingMode.HALF_EVEN, RoundingMode.FLOOR, RoundingMode.CEILING)
        .map { exact.round(MathContext(digits, it)) }
        .filter { it.toString().toDouble() == value }
        .minByOrNull { (it - exact).abs() }
}
