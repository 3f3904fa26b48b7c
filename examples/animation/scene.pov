// A ring of glass and metal balls that turns once over a tiled floor; the clock goes from 0 to 1.
#version 3.7;
#include "colors.inc"
#include "textures.inc"
#include "metals.inc"

global_settings { assumed_gamma 1.0 max_trace_level 8 }

camera { location <0, 3.2, -7> look_at <0, 0.8, 0> angle 50 }
light_source { <-6, 9, -8> White }
light_source { <8, 6, -3> rgb <0.35, 0.35, 0.5> }
background { rgb <0.05, 0.07, 0.15> }

plane {
    y, 0
    pigment { checker rgb <0.85, 0.82, 0.75>, rgb <0.2, 0.25, 0.35> }
    finish { reflection 0.15 }
}

#declare Balls = 9;
#for (Ball, 0, Balls - 1)
    #declare Turn = 360 * (Ball / Balls + clock);
    sphere {
        <2.4, 0.7 + 0.5 * sin(radians(3 * Turn)), 0>, 0.6
        #if (mod(Ball, 3) = 0)
            material { M_Glass3 }
        #elseif (mod(Ball, 3) = 1)
            texture { T_Chrome_4D }
        #else
            pigment { rgb <0.9, 0.35 + 0.05 * Ball, 0.15> } finish { phong 0.8 }
        #end
        rotate Turn * y
    }
#end

cone { <0, 0, 0>, 0.9, <0, 1.8, 0>, 0 pigment { marble turbulence 0.6 color_map { [0 White] [1 Gray40] } } rotate -360 * clock * y }
