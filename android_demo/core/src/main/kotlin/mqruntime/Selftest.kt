package mqruntime

import ai.onnxruntime.OnnxTensor
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.math.abs
import kotlin.math.max

/**
 * Does a model give here what it gave where its bundle was made? Golden vectors tell.
 *
 * `mqruntime/bundle/file.py` describes golden/golden.json. Kernels of other processors round differently,
 * so figures of the outputs are compared within a tolerance; tokens and text must be equal.
 */
object Selftest {
    private const val GOLDEN_FORMAT = 1L

    /** Means of a tensor's values, and of their absolute values. */
    data class OutputFigures(val mean: Double, val meanAbs: Double)

    /** A clip and what was heard. */
    data class GoldenClip(
        val pcm: String,
        val language: String?,
        val tokens: List<Int>,
        val text: String,
        val outputs: Map<String, OutputFigures>,
    )

    /** The contents of golden/golden.json. */
    data class Golden(val clips: List<GoldenClip>, val tolerance: Double)

    /**
     * A clip as it should be and as it was heard here.
     *
     * @property worst the output figure that is farthest off, in tolerances: above 1 is too far.
     */
    data class Checked(val expected: GoldenClip, val heard: GoldenClip, val worst: Double) {
        /**
         * Whether tokens and words are equal and all figures within the tolerance.
         *
         * Words, as bundles of 0.3.0 hold the texts of CTC models with single spaces.
         */
        val passed: Boolean
            get() = expected.tokens == heard.tokens && words(expected.text) == words(heard.text) &&
                expected.language == heard.language && worst <= 1

        private fun words(text: String) = text.split(' ').filter(String::isNotEmpty)
    }

    /**
     * Run a bundle's golden clips, one after the other.
     *
     * @param recognizer opened from `bundle`.
     * @param cancel as of [Recognizer.transcribe].
     * @throws BundleError the bundle holds no golden vectors, or malformed ones.
     */
    fun run(bundle: Bundle, recognizer: Recognizer, cancel: AtomicBoolean? = null): Sequence<Checked> {
        val golden = readGolden(bundle)
        return golden.clips.asSequence().map { clip ->
            val content = Wav.parse(bundle.bytes(clip.pcm), "${bundle.path}/${clip.pcm}")
            val pcm = Wav.resample(content.channels[0], content.rate, recognizer.manifest.sampleRate)
            val heard = hear(recognizer, pcm, clip.pcm, cancel)
            Checked(clip, heard, worst(clip, heard) / golden.tolerance)
        }
    }

    /**
     * The golden vectors of a bundle.
     *
     * @throws BundleError there are none, or they are malformed.
     */
    fun readGolden(bundle: Bundle): Golden {
        val name = bundle.manifest.golden
            ?: throw BundleError("${bundle.path}: holds no golden vectors; package it again")
        try {
            val fields = Fields(parseJson(bundle.bytes(name)))
            val golden = Golden(fields.fieldsList("clips").map(::goldenClip), fields.double("tolerance"))
            val format = fields.long("format")
            fields.done()
            require(format == GOLDEN_FORMAT && golden.clips.isNotEmpty() && golden.tolerance > 0) {
                "format $format, ${golden.clips.size} clips"
            }
            return golden
        } catch (error: IllegalArgumentException) {
            throw BundleError("${bundle.path}: $name: ${firstLine(error)}; package it again")
        }
    }

    /** What a model makes of PCM: text, and figures of the first graph's outputs. */
    fun hear(recognizer: Recognizer, pcm: FloatArray, name: String, cancel: AtomicBoolean? = null): GoldenClip {
        val figures = recognizer.limited(cancel) { graphs ->
            firstOutputs(graphs, recognizer.manifest, pcm).use { it.mapValues { (_, values) -> figures(values) } }
        }
        val result = recognizer.transcribe(pcm, cancel = cancel)
        return GoldenClip(name, result.language, result.tokens, result.text, figures)
    }

    private fun firstOutputs(graphs: Map<String, Graph>, manifest: Manifest, pcm: FloatArray): Outputs {
        if (manifest.whisper != null) return Whisper.encode(graphs.getValue("encoder"), manifest.whisper, pcm)
        if (manifest.seq2seq != null) return Seq2Seq.encode(graphs.getValue("encoder"), manifest, pcm)
        if (manifest.transducer != null) return Transducer.encode(graphs.getValue("encoder"), manifest, pcm)
        val padded = pcm.copyOf(max(pcm.size, manifest.minSamples))
        return Session.tensor(padded, 1, padded.size.toLong()).use { graphs.getValue("model").run(mapOf("pcm" to it)) }
    }

    private fun goldenClip(fields: Fields) = GoldenClip(
        fields.string("pcm"),
        fields.optionalString("language"),
        fields.ints("tokens"),
        fields.string("text"),
        fields.fieldsMap("outputs").mapValues { (_, output) ->
            OutputFigures(output.double("mean"), output.double("mean_abs")).also { output.done() }
        },
    ).also { fields.done() }

    private fun figures(tensor: OnnxTensor): OutputFigures {
        var sum = 0.0
        var absolute = 0.0
        if (!tensor.isFloat) throw ModelError("a graph's output is not float32; export the model again")
        val values = tensor.floats()
        for (value in values) {
            sum += value
            absolute += abs(value)
        }
        return OutputFigures(sum / values.size, absolute / values.size)
    }

    /** The largest difference of a figure, relative to `meanAbs`. */
    private fun worst(expected: GoldenClip, heard: GoldenClip): Double {
        if (expected.outputs.keys != heard.outputs.keys) return Double.POSITIVE_INFINITY
        return expected.outputs.maxOf { (name, figures) ->
            val scale = max(abs(figures.meanAbs), 1e-30)
            val found = heard.outputs.getValue(name)
            max(abs(found.mean - figures.mean), abs(found.meanAbs - figures.meanAbs)) / scale
        }
    }
}
