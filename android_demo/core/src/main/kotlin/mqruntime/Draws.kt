package mqruntime

import java.math.BigInteger

/**
 * The random numbers that the Python runtime draws: those of `numpy.random.default_rng(0)`.
 *
 * That is PCG64: a linear congruential generator of 128 bits, whose halves are combined and rotated
 * into 64 (O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for
 * Random Number Generation" (2014), section 6.3: XSL-RR). State and increment are what numpy makes of
 * the seed 0, the only one that recognition uses.
 */
internal class Draws {
    private var state = BigInteger("35399562948360463058890781895381311971")

    /** The next number from 0 up to 1, in steps of 2^-53. */
    fun next(): Double {
        state = state.multiply(MULTIPLIER).add(INCREMENT).and(MASK)
        val high = state.shiftRight(64).toLong()
        val word = (high xor state.toLong()).rotateRight((high ushr 58).toInt())
        return (word ushr 11) * STEP
    }

    private companion object {
        val MULTIPLIER = BigInteger("47026247687942121848144207491837523525")
        val INCREMENT = BigInteger("87136372517582989555478159403783844777")
        val MASK: BigInteger = BigInteger.ONE.shiftLeft(128).subtract(BigInteger.ONE)
        const val STEP = 1.0 / (1L shl 53)
    }
}
