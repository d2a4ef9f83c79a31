package mqruntime

import org.junit.jupiter.api.Assumptions.assumeTrue
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.GZIPInputStream

/** What tools/make_test_bundles.py made, and the answers that Python gave. */
object TestData {
    val folder = File(System.getProperty("mqtool.test.bundles"))
    private val expected: Map<*, *> = parseJson(
        File(folder, "expected.json").also {
            check(it.isFile) { "$it is missing; run: python android_demo/tools/make_test_bundles.py" }
        }.readBytes(),
    ) as Map<*, *>

    /** What Python heard in a clip, with these options. */
    class Heard(val clip: File, val options: DecodingOptions, val result: Result)

    class Mutant(val file: File, val refused: Boolean)

    class Resampled(val clip: File, val rate: Int, val samples: FloatArray)

    fun bundle(name: String): File = File(folder, entry(name)["file"] as String)

    fun heard(name: String): List<Heard> = (entry(name)["heard"] as List<*>).map { it as Map<*, *> }.map {
        val segments = (it["segments"] as List<*>).map { segment -> segment(segment as Map<*, *>) }
        val result = Result(
            it["text"] as String, ints(it["tokens"]), it["language"] as String?, 0.0,
            score = number(it["score"]), segments = segments,
        )
        Heard(clip(it["clip"] as String), options(it["options"] as Map<*, *>), result)
    }

    private fun segment(fields: Map<*, *>) = Segment(
        number(fields["start"])!!, number(fields["end"])!!, fields["text"] as String, ints(fields["tokens"]),
        number(fields["score"]),
    )

    private fun options(fields: Map<*, *>): DecodingOptions {
        val default = DecodingOptions()
        return DecodingOptions(
            fields["timestamps"] as Boolean?,
            (fields["beam_size"] as Long?)?.toInt() ?: default.beamSize,
            temperature(fields["temperature"]),
            number(fields["compression_ratio_threshold"]) ?: default.compressionRatioThreshold,
            number(fields["logprob_threshold"]) ?: default.logprobThreshold,
            number(fields["no_speech_threshold"]) ?: default.noSpeechThreshold,
            prompt = fields["prompt"] as String?,
            previousText = fields["previous_text"] == true,
        )
    }

    /** One number or several: in Python a float or a tuple. */
    private fun temperature(value: Any?): List<Double>? = when (value) {
        null -> null
        is List<*> -> value.map { number(it)!! }
        else -> listOf(number(value)!!)
    }

    private fun ints(value: Any?): List<Int> = (value as List<*>).map { (it as Long).toInt() }

    private fun number(value: Any?): Double? = (value as Number?)?.toDouble()

    /** Texts and their tokens, of whisper-tiny.en; none where its weights are missing. */
    val encoded: Map<String, List<Int>> = (expected["encoded"] as Map<*, *>).entries
        .associate { (text, tokens) -> text as String to ints(tokens) }

    /** The first numbers of numpy's generator with the seed that recognition uses. */
    val draws: List<Double> = (expected["draws"] as List<*>).map { number(it)!! }

    /** Start and length of what Python's EnergyVad cuts from a clip fed in chunks of 1,000 samples. */
    fun utterances(clip: String): List<Pair<Long, Int>> = ((expected["utterances"] as Map<*, *>)[clip] as List<*>)
        .map { ints(it) }.map { (start, length) -> start.toLong() to length }

    fun clip(name: String) = File(folder, "clips/$name")

    val mutants: List<Mutant> = (expected["mutants"] as List<*>).map { it as Map<*, *> }
        .map { Mutant(File(folder, it["file"] as String), it["refused"] as Boolean) }

    /** What Python says, by name, of bundles whose graphs may not run or answer otherwise than their task takes. */
    val wrong: Map<String, String?> = (expected["wrong"] as Map<*, *>).entries.associate { (file, error) ->
        (file as String).removePrefix("wrong/").removeSuffix(".mqz") to error as String?
    }

    fun wrong(name: String) = File(folder, "wrong/$name.mqz")

    /** Write what is in a bundle as a model folder. */
    fun unzip(bundle: Bundle, folder: File): File {
        folder.mkdir()
        for (name in bundle.names.filter { '/' !in it }) File(folder, name).writeBytes(bundle.bytes(name))
        return folder
    }

    val resampled: List<Resampled> = (expected["resampled"] as Map<*, *>).map { (name, value) ->
        val fields = value as Map<*, *>
        val bytes = ByteBuffer.wrap(clip(fields["samples"] as String).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        val samples = FloatArray(bytes.remaining() / 4).also(bytes.asFloatBuffer()::get)
        Resampled(clip(name as String), (fields["rate"] as Long).toInt(), samples)
    }

    /** Of the Python suite: tests/mutants.py describes the file. */
    class Vectors(val pcm: FloatArray, val text: String, val publicKey: String, val mutants: List<VectorMutant>) {
        fun named(what: String) = mutants.first { it.what == what }
    }

    class VectorMutant(val what: String, val bundle: ByteArray, val verdict: String, val verdictWithKey: String) {
        fun write(folder: File) = File(folder, "app.mqz").also { it.writeBytes(bundle) }
    }

    val vectors: Vectors by lazy {
        val file = File(folder, "mutants.json.gz")
        val fields = parseJson(GZIPInputStream(file.inputStream()).use { it.readBytes() }) as Map<*, *>
        val pcm = ByteBuffer.wrap(bytes(fields["pcm"])).order(ByteOrder.LITTLE_ENDIAN).asShortBuffer()
        Vectors(
            FloatArray(pcm.remaining()) { pcm[it] / 32768f },
            fields["text"] as String,
            String(bytes(fields["public_key"])),
            (fields["mutants"] as List<*>).map { it as Map<*, *> }.map {
                VectorMutant(
                    it["what"] as String,
                    bytes(it["bundle"]),
                    it["verdict"] as String,
                    it["verdict_with_key"] as String,
                )
            },
        )
    }

    private fun bytes(digits: Any?): ByteArray = (digits as String).chunked(2).map { it.toInt(16).toByte() }.toByteArray()

    /** Skips the test where a model was not at hand, and fails it where all data must be (CI). */
    private fun entry(name: String): Map<*, *> {
        val entry = (expected["bundles"] as Map<*, *>)[name] as Map<*, *>?
        val mayBeMissing = System.getenv("MQTOOL_REQUIRE_DATA") != "1" || name in expected["not_trained_yet"] as List<*>
        check(entry != null || mayBeMissing) { "no bundle $name (MQTOOL_REQUIRE_DATA=1)" }
        assumeTrue(entry != null, "no bundle $name: make_test_bundles.py said why")
        return entry!!
    }
}
