package mqruntime

import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

private const val DEEPEST = 64
private val INTEGER = Regex("-?(0|[1-9][0-9]*)")

/**
 * Parse UTF-8 JSON strictly: no key twice in an object, no NaN or Infinity, integers of 64 bits, lists
 * and objects at most 64 deep in one another, nothing after the value.
 *
 * @return a String, Long, Double, Boolean or null, or a List or Map of these.
 * @throws IllegalArgumentException it is not that.
 */
fun parseJson(content: ByteArray): Any? {
    val decoder = Charsets.UTF_8.newDecoder()
        .onMalformedInput(CodingErrorAction.REPORT)
        .onUnmappableCharacter(CodingErrorAction.REPORT)
    try {
        val text = decoder.decode(ByteBuffer.wrap(content)).toString()
        require(!text.startsWith('\uFEFF')) { "it begins with a byte order mark" }
        val reader = JsonReader(StringReader(text))
        reader.strictness = Strictness.STRICT
        reader.nestingLimit = DEEPEST
        val value = readValue(reader)
        require(reader.peek() == JsonToken.END_DOCUMENT) { "something follows the value" }
        return value
    } catch (error: CharacterCodingException) {
        throw IllegalArgumentException("it is not UTF-8", error)
    } catch (error: IOException) {
        throw IllegalArgumentException(firstLine(error), error)
    } catch (error: IllegalStateException) {
        throw IllegalArgumentException(firstLine(error), error)
    }
}

private fun readValue(reader: JsonReader): Any? = when (reader.peek()) {
    JsonToken.BEGIN_OBJECT -> readObject(reader)
    JsonToken.BEGIN_ARRAY -> readArray(reader)
    JsonToken.STRING -> reader.nextString()
    JsonToken.BOOLEAN -> reader.nextBoolean()
    JsonToken.NULL -> reader.nextNull().let { null }
    JsonToken.NUMBER -> readNumber(reader.nextString())
    else -> throw IllegalArgumentException("a value is missing")
}

private fun readObject(reader: JsonReader): Map<String, Any?> {
    val values = LinkedHashMap<String, Any?>()
    reader.beginObject()
    while (reader.hasNext()) {
        val name = reader.nextName()
        require(name !in values) { "'$name' is given twice" }
        values[name] = readValue(reader)
    }
    reader.endObject()
    return values
}

private fun readArray(reader: JsonReader): List<Any?> {
    val values = ArrayList<Any?>()
    reader.beginArray()
    while (reader.hasNext()) values.add(readValue(reader))
    reader.endArray()
    return values
}

private fun readNumber(text: String): Any {
    if (INTEGER.matches(text)) {
        return requireNotNull(text.toLongOrNull()) { "$text is too large an integer" }
    }
    return text.toDouble()
}

/**
 * The fields of a JSON object, taken out one by one with their types checked. Take all that there
 * may be, then call [done].
 *
 * Every function throws IllegalArgumentException that names the first field which is missing,
 * unknown or of another type.
 *
 * @param value a parsed JSON value.
 * @param name what to call it in errors.
 */
class Fields(value: Any?, private val name: String = "") {
    private val values: Map<*, *>
    private val taken = HashSet<String>()

    /** Optional fields that were asked for and are not there. */
    val lacking: Set<String> get() = missed
    private val missed = HashSet<String>()

    init {
        require(value is Map<*, *>) { "${name.ifEmpty { "the content" }} is ${short(value)}, not an object" }
        values = value
    }

    fun has(key: String): Boolean = values.containsKey(key).also { if (!it) missed.add(key) }

    /** Whether there is a field that may be left out. */
    fun holds(key: String): Boolean = values.containsKey(key)

    fun string(key: String): String = text(take(key), path(key))

    fun optionalString(key: String): String? = take(key)?.let { text(it, path(key)) }

    fun int(key: String): Int = integer(take(key), path(key))

    fun optionalInt(key: String): Int? = take(key)?.let { integer(it, path(key)) }

    fun long(key: String): Long = longInteger(take(key), path(key))

    fun optionalLong(key: String): Long? = take(key)?.let { longInteger(it, path(key)) }

    fun double(key: String): Double = number(take(key), path(key))

    fun boolean(key: String): Boolean = take(key).let {
        requireNotNull(it as? Boolean) { "${path(key)} is ${short(it)}, not true or false" }
    }

    fun strings(key: String): List<String> = list(key).mapIndexed { i, it -> text(it, "${path(key)}[$i]") }

    fun ints(key: String): List<Int> = list(key).mapIndexed { i, it -> integer(it, "${path(key)}[$i]") }

    fun stringMap(key: String): Map<String, String> = map(key).mapValues { text(it.value, "${path(key)}.${it.key}") }

    fun intMap(key: String): Map<String, Int> = map(key).mapValues { integer(it.value, "${path(key)}.${it.key}") }

    /** Lengths of a tensor: integers and, for what may vary, names. */
    fun lengths(key: String): List<Any> = list(key).mapIndexed { i, it ->
        require(it is Long || it is String) { "${path(key)}[$i] is ${short(it)}, not a length or a name" }
        it as Any
    }

    fun fields(key: String): Fields = Fields(take(key), path(key))

    fun optionalFields(key: String): Fields? = take(key)?.let { Fields(it, path(key)) }

    fun fieldsList(key: String): List<Fields> = list(key).mapIndexed { i, it -> Fields(it, "${path(key)}[$i]") }

    fun fieldsMap(key: String): Map<String, Fields> = map(key).mapValues { Fields(it.value, "${path(key)}.${it.key}") }

    fun optionalMap(key: String): Map<String, Any?>? = if (values[key] == null) take(key).let { null } else map(key)

    /** Take one of several strings. */
    fun choice(key: String, choices: Collection<String>): String {
        val value = take(key)
        require(value in choices) { "${path(key)} is ${short(value)}, not one of: ${choices.joinToString()}" }
        return value as String
    }

    /** Refuse fields that nobody took. */
    fun done() {
        val unknown = values.keys.map { it as String }.filter { it !in taken }.minOrNull()
        require(unknown == null) { "${path(unknown!!)} is not a known field" }
    }

    private fun path(key: String) = if (name.isEmpty()) key else "$name.$key"

    private fun take(key: String): Any? {
        require(values.containsKey(key)) { "${path(key)} is missing" }
        taken.add(key)
        return values[key]
    }

    private fun list(key: String): List<*> = take(key).let {
        requireNotNull(it as? List<*>) { "${path(key)} is ${short(it)}, not a list" }
    }

    private fun map(key: String): Map<String, Any?> {
        val value = take(key)
        require(value is Map<*, *>) { "${path(key)} is ${short(value)}, not an object" }
        return value.entries.associate { (it.key as String) to it.value }
    }

    private fun text(value: Any?, path: String): String =
        requireNotNull(value as? String) { "$path is ${short(value)}, not a string" }

    private fun longInteger(value: Any?, path: String): Long =
        requireNotNull(value as? Long) { "$path is ${short(value)}, not an integer" }

    private fun integer(value: Any?, path: String): Int {
        val number = longInteger(value, path)
        require(number == number.toInt().toLong()) { "$path is $number, too large" }
        return number.toInt()
    }

    private fun number(value: Any?, path: String): Double =
        requireNotNull((value as? Number)?.toDouble()) { "$path is ${short(value)}, not a number" }

    private fun short(value: Any?): String {
        val text = if (value is String) "'$value'" else value.toString()
        return if (text.length <= 40) text else text.take(37) + "..."
    }
}

internal fun firstLine(error: Throwable): String {
    val line = error.message?.trim()?.lineSequence()?.firstOrNull().orEmpty()
    return line.take(300).ifEmpty { error.javaClass.simpleName }
}
